//! Random queries.

use super::{
    documents::COLLECTIONS,
    expression::{Shape, Visible, Writer},
};

/// Deepest subquery.
const LEVELS_MAX: usize = 3;

/// A query with the names of its columns.
pub(crate) struct Query {
    pub(crate) text: String,
    columns: Vec<String>,
}

/// What a query must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Anything.
    Rows,
    /// One column; any number of rows.
    Column,
    /// One column, at most one row.
    One,
}

/// Directives for all sources of a SELECT or for one.
const DIRECTIVES: &[&str] = &[
    r##"{"#prefer_order":true}"##,
    r##"{"#max_scans":1}"##,
    r##"{"#prefer_order":false,"#max_scans":9}"##,
    r##"{"#max_scans":0}"##,
];

impl Writer<'_, '_> {
    /// A whole statement.
    pub(crate) fn statement(&mut self) -> String {
        self.level = 0;
        self.visible.clear();
        self.locals.clear();
        self.queries = true;
        match self.choices.percent(12) {
            true => self.union(Wanted::Rows).text,
            false => self.select(Wanted::Rows, false).text,
        }
    }

    /// An UPDATE, DELETE or EVICT.
    pub(crate) fn change(&mut self) -> String {
        self.level = 0;
        let collection = self.choices.of(&COLLECTIONS);
        let alias = self.name("u");
        self.visible = vec![Visible {
            alias: alias.clone(),
            shape: Shape::Stored(collection),
            level: 0,
        }];
        let head = match self.choices.weighted(&[4, 2, 1, 1]) {
            0 => {
                let field = self.choices.of(&["a", "b", "n", "s", "o.x", "r"]);
                // MISSING would leave the document as it is, and out of those that were written.
                let value = self.any(1);
                let first = format!("{field} = coalesce ( {value} , 0 )");
                let more = match self.choices.percent(25) {
                    true => format!(" , tags = {}", self.any(1)),
                    false => String::new(),
                };
                format!("UPDATE {collection} {alias} SET {first}{more}")
            }
            1 => {
                let field = self.choices.of(&["a", "b", "n", "s", "o.x", "tags"]);
                format!("UPDATE {collection} {alias} UNSET {field}")
            }
            2 => format!("DELETE FROM {collection} {alias}"),
            _ => format!("EVICT FROM {collection} {alias}"),
        };
        let filter = format!(" WHERE {}", self.condition(2));
        let mut window = String::new();
        if self.choices.percent(35) {
            let desc = if self.choices.percent(40) {
                " DESC"
            } else {
                ""
            };
            window = format!(" ORDER BY {}{desc}", self.any(1));
        }
        if self.choices.percent(35) {
            window = format!("{window} LIMIT {}", self.choices.below(4));
            if self.choices.percent(30) {
                window = format!("{window} OFFSET {}", self.choices.below(3));
            }
        }
        let returning = self.returning();
        format!("{head}{filter}{window}{returning}")
    }

    fn returning(&mut self) -> String {
        if !self.choices.percent(40) {
            return String::new();
        }
        // It sees the documents as the statement leaves them.
        let queries = std::mem::replace(&mut self.queries, false);
        let items = match self.choices.below(4) {
            0 => "*".to_owned(),
            1 => format!("{} AS x", self.any(1)),
            2 => format!("{} AS x , {} AS y", self.path(), self.any(2)),
            _ => format!("{} AS x", self.aggregate(false)),
        };
        self.queries = queries;
        format!(" RETURNING {items}")
    }

    /// An INSERT of what a query gives.
    pub(crate) fn insert(&mut self) -> String {
        self.level = 0;
        self.visible.clear();
        self.locals.clear();
        let into = self.choices.of(&COLLECTIONS);
        let from = self.from();
        let id = match self.choices.percent(80) {
            true => {
                let alias = self.visible.first().map(|one| one.alias.clone());
                format!("{}._id", alias.unwrap_or_default())
            }
            false => self.path(),
        };
        let (a, b) = (self.any(2), self.any(1));
        let filter = match self.choices.percent(60) {
            true => format!(" WHERE {}", self.condition(2)),
            false => String::new(),
        };
        let conflict = self.choices.of(&[
            " ON ID CONFLICT DO UPDATE",
            "",
            " ON ID CONFLICT DO NOTHING",
        ]);
        format!(
            "INSERT INTO {into} SELECT {id} AS _id , {a} AS a , {b} AS b {from}{filter}{conflict}"
        )
    }

    /// An INSERT of one document that may be there.
    pub(crate) fn upsert(&mut self) -> String {
        let at = self.choices.below(COLLECTIONS.len());
        let number = self.choices.below(12);
        let fields = super::documents::document(at, number, self.numbers, self.choices);
        let document = Self::written(&idem_model::Value::Object(fields));
        let into = COLLECTIONS[at];
        format!("INSERT INTO {into} DOCUMENTS ({document}) ON ID CONFLICT DO UPDATE")
    }

    /// An index goes, if there is one.
    pub(crate) fn drop_index(&mut self) -> Option<String> {
        let at = match self.indexes.len() {
            0 => return None,
            len => self.choices.below(len),
        };
        let index = self.indexes.remove(at);
        Some(format!("DROP INDEX {} ON {}", index.name, index.collection))
    }

    fn inside<T>(&mut self, body: impl FnOnce(&mut Self) -> T) -> T {
        let visible = self.visible.len();
        self.level += 1;
        let result = body(self);
        self.level -= 1;
        self.visible.truncate(visible);
        result
    }

    fn may_nest(&self) -> bool {
        self.queries && self.level < LEVELS_MAX
    }

    pub(crate) fn scalar_query(&mut self, depth: usize) -> String {
        if !self.may_nest() {
            return self.any(depth.min(1));
        }
        let query = self.inside(|inner| inner.select(Wanted::One, true));
        format!("( {} )", query.text)
    }

    pub(crate) fn exists(&mut self, depth: usize) -> String {
        if !self.may_nest() {
            return self.condition(depth.min(1));
        }
        let not = if self.choices.percent(30) { "NOT " } else { "" };
        let query = self.inside(|inner| inner.select(Wanted::Rows, true));
        format!("{not}EXISTS ( {} )", query.text)
    }

    pub(crate) fn in_query(&mut self, depth: usize) -> String {
        if !self.may_nest() {
            return self.condition(depth.min(1));
        }
        let path = self.path();
        let not = if self.choices.percent(20) { " NOT" } else { "" };
        let query = self.inside(|inner| match inner.choices.percent(15) {
            true => inner.union(Wanted::Column),
            false => inner.select(Wanted::Column, true),
        });
        format!("{path}{not} IN ( {} )", query.text)
    }

    fn union(&mut self, wanted: Wanted) -> Query {
        let mut word = self.choices.of(&["UNION ALL", "UNION"]);
        if self.level > 0 && self.numbers.has_whole_floats {
            word = "UNION ALL";
        }
        let visible = self.visible.len();
        let first = self.select(Wanted::Column, true);
        self.visible.truncate(visible);
        let mut text = first.text;
        for _ in 0..=self.choices.weighted(&[4, 1]) {
            let next = self.select(Wanted::Column, true);
            self.visible.truncate(visible);
            text = format!("{text} {word} {}", next.text);
        }
        if wanted == Wanted::Rows && self.level == 0 && self.choices.percent(50) {
            text.push_str(" ORDER BY x");
            if self.choices.percent(50) {
                text.push_str(" DESC");
            }
            if self.choices.percent(50) {
                text = format!("{text} LIMIT {}", self.choices.below(6));
            }
        }
        Query {
            text,
            columns: first.columns,
        }
    }

    fn from(&mut self) -> String {
        let mut text = String::from("FROM ");
        let sources = 1 + self.choices.weighted(&[6, 4, 2]);
        for at in 0..sources {
            let unnests = at > 0 && self.choices.percent(35);
            if at > 0 {
                let kind = self
                    .choices
                    .of(&["JOIN", "LEFT JOIN", "INNER JOIN", "RIGHT JOIN"]);
                text.push(' ');
                if unnests {
                    text.push_str(self.choices.of(&["", "LEFT ", "INNER "]));
                } else {
                    text.push_str(kind);
                    text.push(' ');
                }
            }
            if unnests {
                text.push_str(&self.unnest());
                continue;
            }
            let (written, shape) = self.source_text();
            let alias = self.name("t");
            text = format!("{text}{written} {alias}");
            if let Shape::Stored(collection) = shape
                && self.choices.percent(14)
            {
                text.push_str(&self.hint(collection));
            }
            let before: Vec<Visible> = self
                .visible
                .iter()
                .filter(|one| one.level == self.level)
                .cloned()
                .collect();
            self.visible.push(Visible {
                alias: alias.clone(),
                shape: shape.clone(),
                level: self.level,
            });
            if at > 0 {
                let on = self.on(&before, &alias, &shape);
                text = format!("{text} ON {on}");
            }
        }
        text
    }

    /// Which documents of a collection, or one of its indexes, or none.
    fn hint(&mut self, collection: &str) -> String {
        match self.choices.weighted(&[5, 2, 1, 2]) {
            0 => {}
            1 => return " USE IDS LIST [ 1 , 'k1' , 2 ]".to_owned(),
            2 => return " USE IDS 3 , 'k3' , 3.0".to_owned(),
            _ => {
                let text = self.choices.of(DIRECTIVES);
                return format!(" USE DIRECTIVES '{text}'");
            }
        }
        let own = self.indexes.iter();
        let own = own.filter(|index| index.collection == collection);
        let names: Vec<String> = own.map(|index| index.name.clone()).collect();
        match names.is_empty() {
            true => " USE INDEX ''".to_owned(),
            false => format!(" USE INDEX '{}'", names[self.choices.below(names.len())]),
        }
    }

    fn source_text(&mut self) -> (String, Shape) {
        let derives = self.may_nest() && self.choices.percent(12);
        if !derives {
            let collection = self.choices.of(&COLLECTIONS);
            return (collection.to_owned(), Shape::Stored(collection));
        }
        // A source does not see those beside it.
        let level = self.level;
        let beside: Vec<Visible> = self.visible.clone();
        self.visible.retain(|one| one.level < level);
        let query = self.inside(|inner| match inner.choices.percent(20) {
            true => inner.union(Wanted::Rows),
            false => inner.select(Wanted::Rows, true),
        });
        self.visible = beside;
        (
            format!("( {} ) AS", query.text),
            Shape::Columns(query.columns),
        )
    }

    fn unnest(&mut self) -> String {
        let alias = self.name("x");
        let stored: Vec<String> = self
            .visible
            .iter()
            .filter(|one| matches!(one.shape, Shape::Stored(_)))
            .map(|one| one.alias.clone())
            .collect();
        let (array, shape) = if stored.is_empty() {
            ("[ 1 , 'a' , 2 ]".to_owned(), Shape::Scalars)
        } else {
            let of = &stored[self.choices.below(stored.len())];
            match self.choices.percent(40) {
                true => (format!("{of}.items"), Shape::Items),
                false => (format!("{of}.tags"), Shape::Scalars),
            }
        };
        self.visible.push(Visible {
            alias: alias.clone(),
            shape,
            level: self.level,
        });
        format!("UNNEST {array} AS {alias}")
    }

    fn on(&mut self, before: &[Visible], alias: &str, shape: &Shape) -> String {
        if before.is_empty() || self.choices.percent(10) {
            return self.condition(1);
        }
        let other = before[self.choices.below(before.len())].clone();
        let mut field = |one: &Visible| match &one.shape {
            Shape::Stored(_) => {
                let field = self.choices.of(&["b", "r", "_id", "a", "n", "s", "o.y"]);
                format!("{}.{field}", one.alias)
            }
            Shape::Scalars => one.alias.clone(),
            Shape::Items => format!("{}.k", one.alias),
            Shape::Columns(columns) => {
                let column = columns.first().map_or("_id", String::as_str);
                format!("{}.{column}", one.alias)
            }
        };
        let left = field(&other);
        let own = Visible {
            alias: alias.to_owned(),
            shape: shape.clone(),
            level: 0,
        };
        let right = field(&own);
        let equality = match self.choices.weighted(&[6, 4, 1]) {
            0 => format!("{left} = {right}"),
            1 => format!("{right} = {left}"),
            _ => format!("{left} < {right}"),
        };
        match self.choices.percent(25) {
            true => format!("{equality} AND {}", self.condition(1)),
            false => equality,
        }
    }

    /// A select. As a part of something it has no window whose rows are left to chance.
    fn select(&mut self, wanted: Wanted, is_part: bool) -> Query {
        let from = self.from();
        let groups = match wanted {
            Wanted::One => self.choices.percent(60),
            _ => self.choices.percent(20),
        };
        let mut filter = String::new();
        if self.choices.percent(65) {
            filter = format!(" WHERE {}", self.condition(2));
        }
        if groups {
            return self.grouped(wanted, is_part, &from, &filter);
        }
        let mut columns = Vec::new();
        let mut items = Vec::new();
        let count = match wanted {
            Wanted::Rows => 1 + self.choices.below(3),
            _ => 1,
        };
        for at in 0..count {
            let name = ["x", "y", "z"][at.min(2)].to_owned();
            items.push(format!("{} AS {name}", self.any(2)));
            columns.push(name);
        }
        let mut projection = items.join(" , ");
        let mut distinct = "";
        let may_drop = !(is_part && self.numbers.has_whole_floats);
        if wanted == Wanted::Rows && self.choices.percent(25) {
            projection = match self.choices.weighted(&[4, 1, 1]) {
                0 => "*".to_owned(),
                1 => format!("{}.*", self.own_alias()),
                _ => format!("{}.* , MISSING `a`", self.own_alias()),
            };
            columns = vec!["a".to_owned(), "b".to_owned(), "_id".to_owned()];
        } else if may_drop && wanted != Wanted::One && self.choices.percent(12) {
            distinct = "DISTINCT ";
        }
        let directives = match self.choices.percent(4) {
            true => format!("/*+{}*/ ", self.choices.of(DIRECTIVES)),
            false => String::new(),
        };
        let mut text = format!("SELECT {directives}{distinct}{projection} {from}{filter}");
        if wanted == Wanted::One {
            // The row may be any of those that sort equally, but its value may not: it sorts first.
            text = format!("{text} ORDER BY x , type ( x ) , serialize_json ( x ) LIMIT 1");
        } else if !is_part {
            let order = self.order(!distinct.is_empty(), &columns);
            text.push_str(&order);
        }
        Query { text, columns }
    }

    /// What one of the sources of the innermost query is called.
    fn own_alias(&mut self) -> String {
        let own = self.visible.iter().filter(|one| one.level == self.level);
        let own: Vec<String> = own.map(|one| one.alias.clone()).collect();
        match own.is_empty() {
            true => "c".to_owned(),
            false => own[self.choices.below(own.len())].clone(),
        }
    }

    fn order(&mut self, by_columns: bool, columns: &[String]) -> String {
        let mut text = String::new();
        if self.choices.percent(50) {
            let len = 1 + self.choices.below(2);
            let keys: Vec<String> = (0..len)
                .map(|_| {
                    let key = match by_columns || self.choices.percent(25) {
                        true => columns[self.choices.below(columns.len())].clone(),
                        false if self.choices.percent(12) => self.any(1),
                        false => self.path(),
                    };
                    match self.choices.percent(40) {
                        true => format!("{key} DESC"),
                        false => key,
                    }
                })
                .collect();
            text = format!(" ORDER BY {}", keys.join(" , "));
        }
        if self.choices.percent(35) {
            text = format!("{text} LIMIT {}", self.choices.below(8));
            if self.choices.percent(40) {
                text = format!("{text} OFFSET {}", self.choices.below(4));
            }
        }
        text
    }

    fn grouped(&mut self, wanted: Wanted, is_part: bool, from: &str, filter: &str) -> Query {
        let mut keys = Vec::new();
        if wanted != Wanted::One {
            for _ in 0..self.choices.below(3) {
                let key = match self.choices.percent(25) {
                    true => {
                        let asks = self.queries && self.choices.percent(10);
                        let queries = std::mem::replace(&mut self.queries, asks);
                        let key = self.any(1);
                        self.queries = queries;
                        key
                    }
                    false => self.path(),
                };
                keys.push(key);
            }
        }
        let mut items: Vec<String> = match wanted {
            Wanted::Rows => keys.clone(),
            _ => Vec::new(),
        };
        let aggregates = match wanted {
            Wanted::Rows => self.choices.below(3),
            _ => 1,
        };
        for _ in 0..aggregates.max(usize::from(items.is_empty())) {
            items.push(self.aggregate(is_part));
        }
        let mut columns = Vec::new();
        let named: Vec<String> = items
            .iter()
            .enumerate()
            .map(|(at, item)| {
                let name = ["x", "y", "z", "w"][at.min(3)].to_owned();
                columns.push(name.clone());
                format!("{item} AS {name}")
            })
            .collect();
        let mut text = format!("SELECT {} {from}{filter}", named.join(" , "));
        if !keys.is_empty() {
            text = format!("{text} GROUP BY {}", keys.join(" , "));
        }
        if self.choices.percent(25) {
            let aggregate = self.aggregate(is_part);
            let operator = self.choices.of(&[">", "<=", "="]);
            let bound = match self.choices.percent(15) {
                true => self.scalar_query(1),
                false => self.choices.below(4).to_string(),
            };
            text = format!("{text} HAVING {aggregate} {operator} {bound}");
        }
        if !is_part && self.choices.percent(50) {
            text = format!(
                "{text} ORDER BY {}",
                columns[self.choices.below(columns.len())]
            );
            if self.choices.percent(40) {
                text.push_str(" DESC");
            }
        }
        if !is_part && self.choices.percent(25) {
            text = format!("{text} LIMIT {}", self.choices.below(6));
        }
        Query { text, columns }
    }

    fn aggregate(&mut self, is_part: bool) -> String {
        let name = self
            .choices
            .of(&["COUNT", "SUM", "MIN", "MAX", "AVG", "MEDIAN", "MID"]);
        if name == "COUNT" && self.choices.percent(60) {
            return "COUNT ( * )".to_owned();
        }
        let may_drop = !(is_part && self.numbers.has_whole_floats);
        let distinct = if may_drop && self.choices.percent(15) {
            "DISTINCT "
        } else {
            ""
        };
        let asks = self.queries && self.choices.percent(10);
        let queries = std::mem::replace(&mut self.queries, asks);
        let argument = match self.choices.percent(30) {
            true => self.any(1),
            false => self.path(),
        };
        self.queries = queries;
        format!("{name} ( {distinct}{argument} )")
    }
}
