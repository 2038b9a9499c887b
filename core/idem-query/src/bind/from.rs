//! The sources of a query, and how they are joined.

use idem_model::limits;

use super::{
    Binder,
    expression::Place,
    hints::SelectHints,
    scope::{Visible, VisibleKind},
};
use crate::{
    ast,
    bound::{FromItem, Join, JoinKind, Place as Stored},
    error::QueryError,
    expr::Expr,
    plan::Access,
    source::Fields,
    span::{Site, Span},
};

impl Binder<'_> {
    /// Binds FROM into the innermost scope, which is still empty.
    pub(super) fn from(
        &mut self,
        from: &[ast::FromItem],
        hints: &SelectHints,
    ) -> Result<Vec<FromItem>, QueryError> {
        let most = hints.max_joins.unwrap_or(limits::JOINS_MAX);
        if let Some(over) = from.get(most + 1) {
            return Err(self
                .error(over.span, format!("FROM has more than {most} joins"))
                .with_hint("the directive #max_joins allows more"));
        }
        let mut items = Vec::with_capacity(from.len());
        for written in from {
            items.push(self.joined_item(written)?);
        }
        if let (Some(index), [first, ..]) = (&hints.index, items.as_mut_slice())
            && first.index.is_none()
        {
            first.index = Some(index.clone());
        }
        for item in &mut items {
            item.hints = item.hints.or(hints.scan);
        }
        Ok(items)
    }

    fn joined_item(&mut self, written: &ast::FromItem) -> Result<FromItem, QueryError> {
        let slot = self.slots();
        let (mut item, is_explicit, name) = match &written.kind {
            ast::FromKind::Collection(source) => {
                let mut item = self.collection(source, slot)?;
                item.ids = self.ids(source)?;
                let name = source.alias.as_ref().unwrap_or(&source.name);
                (item, source.alias.is_some(), name)
            }
            ast::FromKind::Query(query, alias) => {
                // A source does not see those beside it.
                let beside = self.scopes.pop();
                let query = self.query(query)?;
                self.scopes.extend(beside);
                let place = Stored::Derived(Box::new(query));
                (item(slot, place, alias), true, alias)
            }
            ast::FromKind::Unnest(array, alias) => {
                self.place = Place::Rows("UNNEST");
                let place = Stored::Unnest(self.expr(array)?);
                (item(slot, place, alias), true, alias)
            }
        };
        let scope = self.scopes.last().map_or(&[][..], |scope| &scope.sources);
        if scope.iter().any(|known| known.alias == item.alias) {
            let alias = &item.alias;
            return Err(self
                .error(name.span, format!("two sources have the alias `{alias}`"))
                .with_hint(format!("give this one another: {alias} AS {alias}2")));
        }
        let visible = Visible::of(&item, is_explicit);
        if let Some(scope) = self.scopes.last_mut() {
            scope.sources.push(visible);
        }
        if let Some(join) = &written.join {
            self.place = Place::Rows("ON");
            let on = join.on.as_ref().map(|on| self.condition(on)).transpose()?;
            let kind = match join.kind {
                ast::JoinKind::Inner => JoinKind::Inner,
                ast::JoinKind::Left => JoinKind::Left,
                ast::JoinKind::Right => JoinKind::Right,
            };
            item.join = Some(Join::new(kind, on));
        }
        Ok(item)
    }

    /// A collection without what the statement does with its rows.
    pub(super) fn collection(
        &mut self,
        source: &ast::Source,
        slot: usize,
    ) -> Result<FromItem, QueryError> {
        let place = match &source.namespace {
            None => Stored::Stored(self.stored(&source.name)?),
            Some(namespace) if namespace.name == "default" => {
                Stored::Stored(self.stored(&source.name)?)
            }
            Some(namespace) if namespace.name == "system" => {
                // `dual` is one row that never changes.
                self.reads_system |= source.name.name != "dual";
                Stored::System(source.name.name.clone(), Site(source.name.span))
            }
            Some(namespace) => {
                return Err(self
                    .error(
                        namespace.span,
                        format!("there is no namespace `{}`", namespace.name),
                    )
                    .with_hint("the namespaces are system and default"));
            }
        };
        let kinds = self.kinds(&source.kinds)?;
        let hints = self.source_hints(&source.directives)?;
        let written = source
            .index
            .as_ref()
            .map(|index| (index.name.clone(), index.span));
        let alias = source.alias.as_ref().unwrap_or(&source.name);
        Ok(FromItem {
            kinds,
            index: written.or(hints.index),
            hints: hints.scan,
            ..item(slot, place, alias)
        })
    }

    /// USE IDS, which no row of the query changes.
    pub(super) fn ids(&mut self, source: &ast::Source) -> Result<Option<Expr>, QueryError> {
        let Some(written) = &source.ids else {
            return Ok(None);
        };
        let is_stored = source
            .namespace
            .as_ref()
            .is_none_or(|namespace| namespace.name == "default");
        if !is_stored {
            return Err(self.error(source.name.span, "USE IDS is for stored collections only"));
        }
        let beside = self.scopes.pop();
        self.place = Place::Rows("USE IDS");
        let ids = match written {
            ast::UseIds::List(list) => self.expr(list)?,
            ast::UseIds::Each(ids) => Expr::Array(self.exprs(ids)?),
        };
        self.scopes.extend(beside);
        Ok(Some(ids))
    }

    /// The only stored source of the innermost query, or that of an alias.
    pub(super) fn documents(
        &mut self,
        alias: Option<&str>,
        span: Span,
    ) -> Result<usize, QueryError> {
        let all = self.scopes.last().map_or(&[][..], |scope| &scope.sources);
        let mut fitting = all.iter().filter(|source| {
            source.kind == VisibleKind::Documents && alias.is_none_or(|alias| source.alias == alias)
        });
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => {
                let slot = only.slot;
                self.used.insert(slot);
                Ok(slot)
            }
            (Some(_), Some(_)) => Err(self
                .error(span, "it is not clear which document this is about")
                .with_hint("put the alias of its collection into the brackets")),
            (None, _) => Err(self.error(span, "there is no stored document here")),
        }
    }
}

fn item(slot: usize, place: Stored, alias: &ast::Ident) -> FromItem {
    FromItem {
        slot,
        place,
        alias: alias.name.clone(),
        kinds: Vec::new(),
        ids: None,
        index: None,
        hints: crate::bound::ScanHints::default(),
        join: None,
        access: Access::default(),
        filter: None,
        fields: Fields::All,
        tested: None,
        passed: None,
    }
}
