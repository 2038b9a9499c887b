//! Directives to the planner: `/*+ {..} */`, `--+ {..}` and `USE DIRECTIVES '{..}'`.

use idem_model::{Value, json};

use super::Parser;
use crate::{ast::Directive, error::QueryError, span::Span};

impl Parser<'_> {
    /// The directives of the comments that stand directly before the next token.
    pub(super) fn comment_directives(&mut self) -> Result<Vec<Directive>, QueryError> {
        self.skip_comments(self.at);
        let mut directives = Vec::new();
        while let Some(comment) = self.comments.get(self.comment)
            && comment.before == self.at
        {
            let span = comment.span;
            self.comment += 1;
            directives.append(&mut self.directives(span.text(self.text), span)?);
        }
        Ok(directives)
    }

    /// Leaves out the comments before the token `end` that no place has taken.
    pub(super) fn skip_comments(&mut self, end: usize) {
        while let Some(comment) = self.comments.get(self.comment)
            && comment.before < end
        {
            self.stray.push(comment.span);
            self.comment += 1;
        }
    }

    /// Reads the text of directives, which stands at `span`.
    pub(super) fn directives(&self, text: &str, span: Span) -> Result<Vec<Directive>, QueryError> {
        let value = json::parse(text.trim()).map_err(|error| {
            self.error(
                span,
                format!("these directives are not JSON: {}", error.message()),
            )
            .with_hint("directives are an object, as in {\"#index\": \"by_name\"}")
        })?;
        let Value::Object(members) = value else {
            return Err(self.error(span, "directives are a JSON object"));
        };
        Ok(members
            .into_iter()
            .map(|(name, value)| Directive { name, value, span })
            .collect())
    }
}
