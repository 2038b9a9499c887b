//! Random expressions over the sources that are visible.

use idem_model::{Object, Value, json};

use super::{
    Choices,
    documents::{Index, Numbers},
};

/// What a source is, as far as its fields are concerned.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    /// Documents of a collection.
    Stored(&'static str),
    /// Elements of `tags`.
    Scalars,
    /// Elements of `items`.
    Items,
    /// Columns of a subquery.
    Columns(Vec<String>),
}

#[derive(Debug, Clone)]
pub(crate) struct Visible {
    pub(crate) alias: String,
    pub(crate) shape: Shape,
    /// How deep its query is.
    pub(crate) level: usize,
}

/// Writes statements, with a space between any two tokens.
#[derive(Debug)]
pub(crate) struct Writer<'c, 'b> {
    pub(crate) choices: &'c mut Choices<'b>,
    pub(crate) numbers: Numbers,
    pub(crate) indexes: Vec<Index>,
    pub(crate) args: Object,
    pub(crate) visible: Vec<Visible>,
    /// Variables of collection expressions around.
    pub(crate) locals: Vec<String>,
    pub(crate) names: usize,
    /// Whether subqueries may be written here.
    pub(crate) queries: bool,
    pub(crate) level: usize,
}

const COMPARISONS: &[&str] = &["=", "<", ">", "<=", ">=", "!=", "="];

/// Functions that most values are good arguments of, with how many they take.
const FUNCTIONS: &[(&str, usize)] = &[
    ("type", 1),
    ("lower", 1),
    ("abs", 1),
    ("upper", 1),
    ("array_length", 1),
    ("coalesce", 2),
    ("nullif", 2),
    ("ifmissing", 2),
    ("concat", 2),
    ("substr", 2),
    ("array_contains", 2),
    ("is_number", 1),
    ("object_keys", 1),
    ("char_length", 1),
    ("starts_with", 2),
    ("contains", 2),
    ("nvl", 2),
    ("floor", 1),
    ("serialize_json", 1),
    ("split", 2),
    ("pos", 2),
    ("missingif", 2),
];

/// Functions that give something else on each run.
const VARYING: &[&str] = &["clock", "request_info"];

/// Fields that are asked for what is written to them in conflict.
pub(crate) const CONFLICTING: &[&str] = &["a", "b", "o.x", "tags"];

impl Writer<'_, '_> {
    pub(crate) fn name(&mut self, stem: &str) -> String {
        self.names += 1;
        format!("{stem}{}", self.names)
    }

    pub(crate) fn written(value: &Value) -> String {
        json::to_string(value)
    }

    pub(crate) fn literal(&mut self) -> String {
        let value = self.numbers.scalar(self.choices);
        self.literal_or_parameter(value)
    }

    fn literal_or_parameter(&mut self, value: Value) -> String {
        if self.choices.percent(15) && self.args.len() < 6 {
            let name = format!("p{}", self.args.len());
            self.args.insert(name.clone(), value);
            return format!(":{name}");
        }
        Self::written(&value)
    }

    fn number_literal(&mut self) -> String {
        let value = self.numbers.number(self.choices);
        self.literal_or_parameter(value)
    }

    /// A source, mostly one of the innermost query.
    fn source(&mut self) -> Option<Visible> {
        let inner: Vec<&Visible> = self
            .visible
            .iter()
            .filter(|source| source.level == self.level)
            .collect();
        let all: Vec<&Visible> = self.visible.iter().collect();
        let outer = self.choices.percent(25);
        let from = if outer || inner.is_empty() {
            all
        } else {
            inner
        };
        if from.is_empty() {
            return None;
        }
        Some(from[self.choices.below(from.len())].clone())
    }

    /// Mostly a field that an index of the collection begins with, if there is one.
    fn indexed_field(&mut self, collection: &str) -> Option<&'static str> {
        let indexes = self.indexes.iter();
        let fields: Vec<&'static str> = indexes
            .filter(|index| index.collection == collection)
            .flat_map(|index| index.keys.iter().take(2).copied())
            .filter(|key| !key.contains(' '))
            .collect();
        match !fields.is_empty() && self.choices.percent(60) {
            true => Some(fields[self.choices.below(fields.len())]),
            false => None,
        }
    }

    /// The path of a field.
    pub(crate) fn path(&mut self) -> String {
        if !self.locals.is_empty() && self.choices.percent(40) {
            let at = self.choices.below(self.locals.len());
            let local = self.locals[at].clone();
            return match self.choices.weighted(&[4, 1, 1]) {
                0 => local,
                1 => format!("{local}.k"),
                _ => format!("{local}.v"),
            };
        }
        let Some(source) = self.source() else {
            return "1".to_owned();
        };
        let field = match &source.shape {
            Shape::Stored(collection) => {
                if let Some(key) = self.indexed_field(collection) {
                    return format!("{}.{key}", source.alias);
                }
                let fields = [
                    "a", "b", "n", "s", "r", "_id", "o.x", "o.y", "tags", "items", "o", "tags[0]",
                    "nofield",
                ];
                let weights = [5, 5, 5, 4, 3, 3, 3, 2, 1, 1, 1, 1, 1];
                fields[self.choices.weighted(&weights)].to_owned()
            }
            Shape::Scalars => return source.alias,
            Shape::Items => self.choices.of(&["k", "v"]).to_owned(),
            Shape::Columns(columns) if columns.is_empty() => "_id".to_owned(),
            Shape::Columns(columns) => columns[self.choices.below(columns.len())].clone(),
        };
        let alone = self
            .visible
            .iter()
            .filter(|one| one.level == self.level)
            .count()
            == 1;
        let own = source.level == self.level && !matches!(source.shape, Shape::Items);
        match alone && own && self.choices.percent(50) {
            true => field,
            false => format!("{}.{field}", source.alias),
        }
    }

    /// An expression of any type.
    pub(crate) fn any(&mut self, depth: usize) -> String {
        if depth == 0 {
            return match self.choices.weighted(&[4, 1]) {
                0 => self.path(),
                _ => self.literal(),
            };
        }
        match self
            .choices
            .weighted(&[20, 6, 8, 8, 4, 2, 2, 4, 4, 2, 2, 2, 1, 1, 1])
        {
            0 => self.path(),
            1 => self.literal(),
            2 => self.number(depth - 1),
            3 => self.call(depth - 1),
            4 => self.case(depth - 1),
            5 => format!("[ {} , {} ]", self.any(depth - 1), self.any(depth - 1)),
            6 => format!(
                "{{ 'x' : {} , 'y' : {} }}",
                self.any(depth - 1),
                self.path()
            ),
            7 => self.collected(depth - 1),
            8 => self.scalar_query(depth - 1),
            9 => format!("( {} )", self.condition(depth - 1)),
            10 => self.document(),
            11 => format!("( {} || {} )", self.any(depth - 1), self.any(depth - 1)),
            12 => self.cast(depth - 1),
            13 => self.element(depth - 1),
            _ => "MISSING".to_owned(),
        }
    }

    /// What is known of a document besides its fields.
    fn document(&mut self) -> String {
        let Some(Visible {
            alias,
            shape: Shape::Stored(_),
            ..
        }) = self.source()
        else {
            return self.path();
        };
        match self.choices.percent(50) {
            true => format!("document_version ( {alias} )"),
            false => {
                let field = self.choices.of(CONFLICTING);
                format!("conflicts ( {alias}.{field} )")
            }
        }
    }

    fn cast(&mut self, depth: usize) -> String {
        let to = ["string", "integer", "float", "boolean", "binary"];
        let to = self.choices.of(&to);
        format!("CAST ( {} AS {to} )", self.any(depth))
    }

    /// One element of an array, counted from either end.
    fn element(&mut self, depth: usize) -> String {
        let array = self.array();
        match self.choices.below(4) {
            0 => format!("{array}[0]"),
            1 => format!("{array}[-1]"),
            2 => format!("{array}[1].k"),
            _ => format!("{array} [ {} ]", self.number(depth.min(1))),
        }
    }

    pub(crate) fn number(&mut self, depth: usize) -> String {
        if depth == 0 {
            return match self.choices.weighted(&[3, 1]) {
                0 => self.path(),
                _ => self.number_literal(),
            };
        }
        let operators = ["+", "-", "*", "/", "%", "+", "-", "*", "/", "%", "<<", ">>"];
        let operator = self.choices.of(&operators);
        let (left, right) = (self.number(depth - 1), self.number(depth - 1));
        match self.choices.percent(15) {
            true => format!("- ( {left} )"),
            false => format!("( {left} {operator} {right} )"),
        }
    }

    fn call(&mut self, depth: usize) -> String {
        if self.choices.percent(30) {
            return self.any_call(depth);
        }
        let (name, len) = self.choices.of(FUNCTIONS);
        let args: Vec<String> = (0..len).map(|_| self.any(depth)).collect();
        format!("{name} ( {} )", args.join(" , "))
    }

    /// A call of any function that gives the same again on the same data.
    fn any_call(&mut self, depth: usize) -> String {
        let all: Vec<_> = idem_query::functions()
            .filter(|function| !matches!(function.category, "aggregates" | "documents"))
            .filter(|function| !VARYING.contains(&function.name))
            .collect();
        let function = &all[self.choices.below(all.len().min(256))];
        let example = self.choices.percent(25) && !function.examples.is_empty();
        if example || function.name == "cast" || function.name == "position" {
            let at = self.choices.below(function.examples.len());
            return format!("( {} )", function.examples[at].expression);
        }
        let signature = function.signature;
        let most = match signature.contains("()") {
            true => 0,
            false => signature.matches(',').count() + 1,
        };
        let optional = signature.matches('[').count();
        let len = match optional > 0 && self.choices.percent(40) {
            true => most.saturating_sub(optional),
            false => most,
        };
        let args: Vec<String> = (0..len).map(|_| self.any(depth)).collect();
        format!("{} ( {} )", function.name, args.join(" , "))
    }

    fn case(&mut self, depth: usize) -> String {
        if self.choices.percent(30) {
            let operand = self.path();
            let (when, then) = (self.literal(), self.any(depth));
            return match self.choices.percent(50) {
                true => format!("CASE {operand} WHEN {when} THEN {then} END"),
                false => format!(
                    "CASE {operand} WHEN {when} THEN {then} WHEN {} THEN 1 ELSE {} END",
                    self.literal(),
                    self.any(depth)
                ),
            };
        }
        let when = self.condition(depth);
        let (then, other) = (self.any(depth), self.any(depth));
        format!("CASE WHEN {when} THEN {then} ELSE {other} END")
    }

    /// Something to walk over.
    fn array(&mut self) -> String {
        let stored: Vec<&Visible> = self
            .visible
            .iter()
            .filter(|one| matches!(one.shape, Shape::Stored(_)))
            .collect();
        if stored.is_empty() {
            return "[ 1 , 'a' , null ]".to_owned();
        }
        let alias = stored[self.choices.below(stored.len())].alias.clone();
        let field = self.choices.of(&["tags", "items", "tags", "o"]);
        format!("{alias}.{field}")
    }

    fn collected(&mut self, depth: usize) -> String {
        if self.choices.percent(20) {
            return self.collected_object(depth);
        }
        let array = self.array();
        let local = self.name("v");
        self.locals.push(local.clone());
        let item = self.any(depth.min(1));
        let when = match self.choices.percent(50) {
            true => format!(" WHEN {}", self.condition(depth.min(1))),
            false => String::new(),
        };
        self.locals.pop();
        format!("ARRAY {item} FOR {local} IN {array}{when} END")
    }

    fn collected_object(&mut self, depth: usize) -> String {
        let array = self.array();
        let (name, local) = (self.name("k"), self.name("v"));
        self.locals.extend([name.clone(), local.clone()]);
        let item = self.any(depth.min(1));
        let within = self.choices.of(&["IN", "IN", "WITHIN"]);
        self.locals.truncate(self.locals.len() - 2);
        format!(
            "OBJECT CAST ( {name} AS string ) : {item} FOR {name} : {local} {within} {array} END"
        )
    }

    fn quantified(&mut self, depth: usize) -> String {
        let array = self.array();
        let kind = self
            .choices
            .of(&["ANY", "ANY", "ANY", "EVERY", "ANY AND EVERY"]);
        let local = self.name("v");
        let field = if array.ends_with("items") {
            format!("{local}.k")
        } else {
            local.clone()
        };
        self.locals.push(local.clone());
        let satisfies = match self.choices.percent(30) {
            true => self.condition(depth.min(1)),
            false => {
                let operator = self.choices.of(COMPARISONS);
                format!("{field} {operator} {}", self.literal())
            }
        };
        self.locals.pop();
        let within = self.choices.of(&["IN", "IN", "IN", "IN", "WITHIN"]);
        format!("{kind} {local} {within} {array} SATISFIES {satisfies} END")
    }

    /// A condition; most of them could use an index.
    pub(crate) fn condition(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.comparison();
        }
        match self.choices.weighted(&[9, 6, 2, 3, 4, 3, 2, 2, 1, 6, 2, 2]) {
            0 => self.comparison(),
            1 => {
                let word = self.choices.of(&["AND", "AND", "AND", "OR", "OR", "XOR"]);
                let (left, right) = (self.condition(depth - 1), self.condition(depth - 1));
                match self.choices.percent(40) {
                    true => format!("( {left} {word} {right} )"),
                    false => format!("{left} {word} {right}"),
                }
            }
            2 => {
                let not = self.not();
                let path = self.path();
                format!(
                    "{path}{not} BETWEEN {} AND {}",
                    self.literal(),
                    self.literal()
                )
            }
            3 => {
                let not = self.not();
                let path = self.path();
                if self.choices.percent(15) {
                    let array = self.array();
                    return format!("{path}{not} IN {array}");
                }
                let len = match self.choices.percent(10) {
                    true => 12 + self.choices.below(12),
                    false => self.choices.below(4),
                };
                let list: Vec<String> = (0..len).map(|_| self.literal()).collect();
                format!("{path}{not} IN [ {} ]", list.join(" , "))
            }
            4 => {
                let not = self.not();
                let path = self.path();
                let test = self.choices.of(&["NULL", "MISSING", "TRUE", "FALSE"]);
                format!("{path} IS{not} {test}")
            }
            5 => self.quantified(depth - 1),
            6 => {
                let not = self.not();
                let path = self.path();
                let patterns = ["'a%'", "'%'", "'_b'", "'a\\\\%'", "'k%'", "'ab'"];
                let pattern = self.choices.of(&patterns);
                match self.choices.weighted(&[6, 2, 1, 1]) {
                    0 => format!("{path}{not} LIKE {pattern}"),
                    1 => format!("{path}{not} ILIKE {pattern}"),
                    2 => format!("{path}{not} SIMILAR TO '(a|k)%'"),
                    _ => format!("{path}{not} LIKE 'a!%%' ESCAPE '!'"),
                }
            }
            7 => {
                let expr = self.any(depth - 1);
                let operator = self.choices.of(COMPARISONS);
                format!("{expr} {operator} {}", self.any(depth - 1))
            }
            8 => format!("NOT ( {} )", self.condition(depth - 1)),
            9 => self.indexed(),
            10 => self.exists(depth - 1),
            _ => self.in_query(depth - 1),
        }
    }

    fn not(&mut self) -> &'static str {
        if self.choices.percent(20) { " NOT" } else { "" }
    }

    fn comparison(&mut self) -> String {
        let path = self.path();
        let operator = self.choices.of(COMPARISONS);
        let other = match self.choices.weighted(&[5, 1]) {
            0 => self.literal(),
            _ => self.path(),
        };
        match self.choices.percent(20) {
            true => format!("{other} {operator} {path}"),
            false => format!("{path} {operator} {other}"),
        }
    }

    /// A condition for one of the indexes on expressions.
    fn indexed(&mut self) -> String {
        let Some(Visible {
            alias,
            shape: Shape::Stored(collection),
            ..
        }) = self.source()
        else {
            return self.comparison();
        };
        let keys: Vec<&str> = self
            .indexes
            .iter()
            .filter(|index| index.collection == collection)
            .flat_map(|index| index.keys.iter().copied())
            .filter(|key| key.contains(' '))
            .collect();
        let any = [
            "( lower",
            "( b",
            "( type",
            "( abs",
            "DISTINCT ARRAY t",
            "DISTINCT ARRAY i",
        ];
        let key = match keys.is_empty() {
            true => self.choices.of(&any),
            false => keys[self.choices.below(keys.len())],
        };
        let literal = self.literal();
        let operator = self.choices.of(COMPARISONS);
        let in_list = self.choices.percent(20);
        let compared = match in_list {
            true => format!("IN [ {literal} , {} ]", self.literal()),
            false => format!("{operator} {literal}"),
        };
        if key.starts_with("( lower") {
            format!("lower ( {alias}.s ) {compared}")
        } else if key.starts_with("( b") {
            format!("{alias}.b + 1 {compared}")
        } else if key.starts_with("( type") {
            let name = self.choices.of(&["number", "string", "missing", "null"]);
            format!("type ( {alias}.a ) = '{name}'")
        } else if key.starts_with("( abs") {
            format!("abs ( {alias}.n ) {compared}")
        } else if key.starts_with("DISTINCT ARRAY t") {
            match self.choices.below(3) {
                0 => format!("ANY t IN {alias}.tags SATISFIES t {compared} END"),
                1 => format!("array_contains ( {alias}.tags , {literal} )"),
                _ => format!("{literal} IN {alias}.tags"),
            }
        } else {
            format!("ANY i IN {alias}.items SATISFIES i.k {compared} END")
        }
    }
}
