//! Expressions: operator precedence as in the table of docs/dql/expressions.md, unary minus tightest.

use idem_model::{Value, limits};

use super::{
    Parser, is_reserved,
    precedence::{AND, COMPARE, IS, LIKE, NOT, OR, PRODUCT, SHIFT, SUM, XOR, of_arithmetic},
    query::GoesOn,
};
use crate::{
    ast::{
        ArithOp, Call, CastType, CompareOp, Expr, ExprKind, Ident, IsTest, LikeKind, Quantifier,
        Query, Range, Step, SubqueryKind,
    },
    error::QueryError,
    lexer::{TokenKind, unescape},
    span::Span,
};

enum Infix {
    Or,
    Xor,
    And,
    Is,
    Like(LikeKind),
    Between,
    In,
    Compare(CompareOp),
    Arith(ArithOp, u8),
}

impl Infix {
    fn precedence(&self) -> u8 {
        match self {
            Self::Or => OR,
            Self::Xor => XOR,
            Self::And => AND,
            Self::Is => IS,
            Self::Like(_) => LIKE,
            Self::Between | Self::In | Self::Compare(_) => COMPARE,
            Self::Arith(_, precedence) => *precedence,
        }
    }
}

impl Parser<'_> {
    pub(super) fn expr(&mut self) -> Result<Expr, QueryError> {
        self.expr_over(0)
    }

    /// An expression of operators that bind tighter than `floor`.
    fn expr_over(&mut self, floor: u8) -> Result<Expr, QueryError> {
        self.levels += 1;
        if self.levels > limits::NESTING_LEVELS_MAX {
            return Err(self.too_deep(self.peek().span));
        }
        let mut left = self.prefix()?;
        loop {
            // NOT before BETWEEN, IN and LIKE belongs to them.
            let negated = self.at_word("NOT")
                && ["BETWEEN", "IN", "LIKE", "ILIKE", "SIMILAR"]
                    .iter()
                    .any(|word| self.word(1).eq_ignore_ascii_case(word));
            let Some(infix) = self.infix(usize::from(negated)) else {
                break;
            };
            if infix.precedence() <= floor {
                break;
            }
            self.at += usize::from(negated);
            left = self.infix_rest(left, &infix, negated)?;
        }
        self.levels -= 1;
        Ok(left)
    }

    /// The operator that comes next, not yet taken.
    fn infix(&self, offset: usize) -> Option<Infix> {
        use ArithOp::{Add, Concat, Divide, Multiply, Remainder, ShiftLeft, ShiftRight, Subtract};
        let token = self.peek_at(offset);
        Some(match token.kind {
            TokenKind::Sign(sign) => match sign {
                "+" => Infix::Arith(Add, SUM),
                "-" => Infix::Arith(Subtract, SUM),
                "||" => Infix::Arith(Concat, SUM),
                "*" => Infix::Arith(Multiply, PRODUCT),
                "/" => Infix::Arith(Divide, PRODUCT),
                "%" => Infix::Arith(Remainder, PRODUCT),
                "<<" => Infix::Arith(ShiftLeft, SHIFT),
                ">>" => Infix::Arith(ShiftRight, SHIFT),
                "=" | "==" => Infix::Compare(CompareOp::Equal),
                "!=" | "<>" => Infix::Compare(CompareOp::NotEqual),
                "<" => Infix::Compare(CompareOp::Less),
                "<=" => Infix::Compare(CompareOp::LessEqual),
                ">" => Infix::Compare(CompareOp::Greater),
                ">=" => Infix::Compare(CompareOp::GreaterEqual),
                _ => return None,
            },
            TokenKind::Word => {
                let word = self.word(offset);
                let is = |keyword: &str| word.eq_ignore_ascii_case(keyword);
                match word.len() {
                    2 if is("OR") => Infix::Or,
                    2 if is("IS") => Infix::Is,
                    2 if is("IN") => Infix::In,
                    3 if is("AND") => Infix::And,
                    3 if is("XOR") => Infix::Xor,
                    4 if is("LIKE") => Infix::Like(LikeKind::Like),
                    5 if is("ILIKE") => Infix::Like(LikeKind::ILike),
                    7 if is("SIMILAR") => Infix::Like(LikeKind::Similar),
                    7 if is("BETWEEN") => Infix::Between,
                    _ => return None,
                }
            }
            _ => return None,
        })
    }

    fn infix_rest(&mut self, left: Expr, infix: &Infix, negated: bool) -> Result<Expr, QueryError> {
        self.at += 1;
        let precedence = infix.precedence();
        let start = left.span;
        let kind = match infix {
            Infix::Arith(op, _) => return self.chain(left, *op, precedence),
            Infix::Compare(op) => {
                let right = self.expr_over(precedence)?;
                ExprKind::Compare(*op, Box::new(left), Box::new(right))
            }
            Infix::And => ExprKind::And(self.operands(left, "AND", AND)?),
            Infix::Or => ExprKind::Or(self.operands(left, "OR", OR)?),
            Infix::Xor => ExprKind::Xor(self.operands(left, "XOR", XOR)?),
            Infix::In => ExprKind::In {
                value: Box::new(left),
                list: Box::new(self.in_list()?),
                negated,
            },
            Infix::Between => {
                let low = self.expr_over(COMPARE)?;
                self.expect_word("AND")?;
                ExprKind::Between {
                    value: Box::new(left),
                    low: Box::new(low),
                    high: Box::new(self.expr_over(COMPARE)?),
                    negated,
                }
            }
            Infix::Like(kind) => {
                if *kind == LikeKind::Similar {
                    self.expect_word("TO")?;
                }
                let pattern = self.expr_over(LIKE)?;
                let escape = match self.eat_word("ESCAPE") {
                    true => Some(Box::new(self.expr_over(LIKE)?)),
                    false => None,
                };
                ExprKind::Like {
                    kind: *kind,
                    value: Box::new(left),
                    pattern: Box::new(pattern),
                    escape,
                    negated,
                }
            }
            Infix::Is => {
                let negated = self.eat_word("NOT");
                ExprKind::Is {
                    value: Box::new(left),
                    test: self.is_test()?,
                    negated,
                }
            }
        };
        self.node(kind, start)
    }

    /// One more operand of a chain. Operators of one precedence apply from the left, so a chain on
    /// the left, even one in parentheses, goes on. Its height is not computed anew from all
    /// operands, which would make a long chain quadratic.
    fn chain(&mut self, left: Expr, op: ArithOp, precedence: u8) -> Result<Expr, QueryError> {
        let right = self.expr_over(precedence)?;
        let start = left.span;
        match left.kind {
            ExprKind::Chain(first, mut rest) if chain_precedence(&rest) == Some(precedence) => {
                let levels = left.levels.max(1 + right.levels);
                rest.push((op, right));
                let span = start.to(self.last_span());
                if levels > limits::NESTING_LEVELS_MAX {
                    return Err(self.too_deep(span));
                }
                self.height = self.height.max(levels);
                Ok(Expr {
                    kind: ExprKind::Chain(first, rest),
                    span,
                    levels,
                })
            }
            _ => self.node(ExprKind::Chain(Box::new(left), vec![(op, right)]), start),
        }
    }

    fn is_test(&mut self) -> Result<IsTest, QueryError> {
        for (word, test) in [
            ("NULL", IsTest::Null),
            ("MISSING", IsTest::Missing),
            ("TRUE", IsTest::True),
            ("FALSE", IsTest::False),
        ] {
            if self.eat_word(word) {
                return Ok(test);
            }
        }
        Err(self.expected("NULL, MISSING, TRUE or FALSE", &["NULL", "MISSING"]))
    }

    /// The right side of IN: a subquery or a list in parentheses, or an expression that gives an
    /// array.
    fn in_list(&mut self) -> Result<Expr, QueryError> {
        let start = self.peek().span;
        if !self.eat_sign("(") {
            return self.expr_over(COMPARE);
        }
        if let Some(query) = self.subquery()? {
            return self.node(ExprKind::Subquery(SubqueryKind::Rows, query), start);
        }
        let mut items = match self.at_sign(")") {
            true => Vec::new(),
            false => self.comma_list(Self::expr)?,
        };
        if items.len() == 1
            && let Some(only) = items.pop()
        {
            match self.query_goes_on(only)? {
                GoesOn::Operand(only) => items.push(only),
                GoesOn::Query(query) => {
                    self.expect_sign(")")?;
                    return self.node(ExprKind::Subquery(SubqueryKind::Rows, query), start);
                }
            }
        }
        self.expect_sign(")")?;
        self.node(ExprKind::Array(items), start)
    }

    /// The operands of a chain of one logical operator, whose first sign was taken.
    fn operands(
        &mut self,
        first: Expr,
        keyword: &str,
        precedence: u8,
    ) -> Result<Vec<Expr>, QueryError> {
        let mut items = vec![first];
        loop {
            items.push(self.expr_over(precedence)?);
            if !self.eat_word(keyword) {
                return Ok(items);
            }
        }
    }

    fn prefix(&mut self) -> Result<Expr, QueryError> {
        let start = self.peek().span;
        if self.eat_word("NOT") {
            let operand = self.expr_over(NOT - 1)?;
            return self.node(ExprKind::Not(Box::new(operand)), start);
        }
        if self.eat_sign("+") {
            return self.expr_over(PRODUCT);
        }
        if self.eat_sign("-") {
            // The smallest integer has no positive twin, so the sign belongs to the digits.
            let value = match self.peek().kind {
                TokenKind::Int => Some(integer(self.peek().span.text(self.text), true)),
                TokenKind::Float => Some(self.float(self.peek().span, -1.0)?),
                _ => None,
            };
            if let Some(value) = value {
                self.at += 1;
                let literal = self.node(ExprKind::Literal(value), start)?;
                return self.steps(literal);
            }
            let operand = self.expr_over(PRODUCT)?;
            return self.node(ExprKind::Negate(Box::new(operand)), start);
        }
        let primary = self.primary()?;
        self.steps(primary)
    }

    /// What may follow an operand: `.name` and `[index]`.
    fn steps(&mut self, base: Expr) -> Result<Expr, QueryError> {
        let mut steps = Vec::new();
        let start = base.span;
        loop {
            if self.at_sign(".") && !matches!(self.peek_at(1).kind, TokenKind::Sign("*")) {
                self.at += 1;
                steps.push(Step::Name(self.member()?));
            } else if self.eat_sign("[") {
                steps.push(Step::Index(self.expr()?));
                self.expect_sign("]")?;
            } else {
                break;
            }
            if steps.len() > limits::FIELD_PATH_SEGMENTS_MAX {
                return Err(self.too_deep(self.last_span()));
            }
        }
        if steps.is_empty() {
            return Ok(base);
        }
        self.node(ExprKind::Access(Box::new(base), steps), start)
    }

    fn primary(&mut self) -> Result<Expr, QueryError> {
        let token = self.peek();
        let start = token.span;
        let kind = match token.kind {
            TokenKind::Int => {
                self.at += 1;
                ExprKind::Literal(integer(start.text(self.text), false))
            }
            TokenKind::Float => {
                self.at += 1;
                ExprKind::Literal(self.float(start, 1.0)?)
            }
            TokenKind::Text => {
                self.at += 1;
                ExprKind::Literal(Value::String(self.unescaped(start)?))
            }
            TokenKind::Quoted => self.name_or_call()?,
            TokenKind::Word => return self.word_primary(start),
            TokenKind::Sign(":") => ExprKind::Param(self.parameter()?),
            TokenKind::Sign("(") => {
                self.at += 1;
                if let Some(query) = self.subquery()? {
                    return self.node(ExprKind::Subquery(SubqueryKind::Scalar, query), start);
                }
                let inner = self.expr()?;
                match self.query_goes_on(inner)? {
                    GoesOn::Operand(inner) => {
                        self.expect_sign(")")?;
                        return Ok(Expr {
                            span: start.to(self.last_span()),
                            ..inner
                        });
                    }
                    GoesOn::Query(query) => {
                        self.expect_sign(")")?;
                        ExprKind::Subquery(SubqueryKind::Scalar, query)
                    }
                }
            }
            TokenKind::Sign("[") => {
                self.at += 1;
                let items = match self.at_sign("]") {
                    true => Vec::new(),
                    false => self.comma_list(Self::expr)?,
                };
                self.expect_sign("]")?;
                ExprKind::Array(items)
            }
            TokenKind::Sign("{") => self.object()?,
            TokenKind::Sign("?") => {
                return Err(self
                    .expected("an expression", &[])
                    .with_hint("a parameter is written :name"));
            }
            _ => return Err(self.expected("an expression", &[])),
        };
        self.node(kind, start)
    }

    fn float(&self, span: Span, sign: f64) -> Result<Value, QueryError> {
        let number = span.text(self.text).parse::<f64>().ok();
        number
            .and_then(|number| Value::float(sign * number))
            .ok_or_else(|| self.error(span, "number out of range"))
    }

    /// The rest of `(SELECT ..)` behind the bracket, if that is what comes.
    fn subquery(&mut self) -> Result<Option<Box<Query>>, QueryError> {
        if !self.at_query() {
            return Ok(None);
        }
        let query = self.nested_query()?;
        self.expect_sign(")")?;
        Ok(Some(Box::new(query)))
    }

    fn word_primary(&mut self, start: Span) -> Result<Expr, QueryError> {
        let word = self.word(0).to_ascii_uppercase();
        let kind = match word.as_str() {
            "NULL" => self.constant(ExprKind::Literal(Value::Null)),
            "TRUE" => self.constant(ExprKind::Literal(Value::Bool(true))),
            "FALSE" => self.constant(ExprKind::Literal(Value::Bool(false))),
            "MISSING" => self.constant(ExprKind::Missing),
            "CASE" => self.case()?,
            "ANY" | "EVERY" => self.quantified()?,
            "ARRAY" => self.array_of()?,
            "OBJECT" => self.object_of()?,
            "SELECT" => {
                return Err(self
                    .expected("an expression", &[])
                    .with_hint("a subquery stands in parentheses: (SELECT ..)"));
            }
            "CAST" if self.next_is_call() => self.cast()?,
            "TRIM" if self.next_is_call() => self.trim()?,
            "POSITION" if self.next_is_call() => self.position()?,
            "EXISTS" if self.next_is_call() && self.at_query_from(2) => {
                self.at += 2;
                let query = self.nested_query()?;
                self.expect_sign(")")?;
                ExprKind::Subquery(SubqueryKind::Exists, Box::new(query))
            }
            _ if is_reserved(&word) => {
                let shown = start.text(self.text);
                return Err(self.expected("an expression", &[]).with_hint(format!(
                    "`{shown}` is a keyword; as a name it goes into backticks: `{shown}`"
                )));
            }
            _ => self.name_or_call()?,
        };
        self.node(kind, start)
    }

    fn constant(&mut self, kind: ExprKind) -> ExprKind {
        self.at += 1;
        kind
    }

    fn next_is_call(&self) -> bool {
        matches!(self.peek_at(1).kind, TokenKind::Sign("("))
    }

    fn name_or_call(&mut self) -> Result<ExprKind, QueryError> {
        if !self.next_is_call() {
            return Ok(ExprKind::Name(self.ident("a name")?.name));
        }
        let name = self.ident("a function name")?;
        self.expect_sign("(")?;
        let mut call = Call {
            name,
            args: Vec::new(),
            distinct: false,
            star: false,
        };
        if self.eat_sign("*") {
            call.star = true;
        } else if !self.at_sign(")") {
            call.distinct = self.eat_word("DISTINCT");
            call.args = self.comma_list(Self::expr)?;
        }
        self.expect_sign(")")?;
        Ok(ExprKind::Call(call))
    }

    fn parameter(&mut self) -> Result<String, QueryError> {
        let colon = self.advance().span;
        let token = self.peek();
        let shown = token.span.text(self.text);
        let adjacent = token.span.start == colon.end;
        let name = match token.kind {
            TokenKind::Word | TokenKind::Int if adjacent => shown,
            TokenKind::Quoted if adjacent => &shown[1..shown.len() - 1],
            _ => return Err(self.expected("a parameter name right behind `:`", &[])),
        };
        self.at += 1;
        Ok(name.to_owned())
    }

    fn unescaped(&self, span: Span) -> Result<String, QueryError> {
        unescape(span.text(self.text)).map_err(|(from, to)| {
            let start = span.start as usize;
            self.error(
                Span::new(start + from, start + to),
                "\\u needs four hex digits, and two of them for a character over ffff",
            )
        })
    }

    fn object(&mut self) -> Result<ExprKind, QueryError> {
        self.at += 1;
        let mut fields = Vec::new();
        if !self.at_sign("}") {
            fields = self.comma_list(|parser| {
                let name = parser.expr()?;
                parser.expect_sign(":")?;
                Ok((name, parser.expr()?))
            })?;
        }
        self.expect_sign("}")?;
        Ok(ExprKind::Object(fields))
    }

    fn case(&mut self) -> Result<ExprKind, QueryError> {
        self.at += 1;
        let operand = match self.at_word("WHEN") {
            true => None,
            false => Some(Box::new(self.expr()?)),
        };
        let mut branches = Vec::new();
        while self.eat_word("WHEN") {
            let condition = self.expr()?;
            self.expect_word("THEN")?;
            branches.push((condition, self.expr()?));
        }
        if branches.is_empty() {
            return Err(self.expected("WHEN", &["WHEN"]));
        }
        let otherwise = match self.eat_word("ELSE") {
            true => Some(Box::new(self.expr()?)),
            false => None,
        };
        self.expect_word("END")?;
        Ok(ExprKind::Case {
            operand,
            branches,
            otherwise,
        })
    }

    fn quantified(&mut self) -> Result<ExprKind, QueryError> {
        let kind = if self.eat_words(&["ANY", "AND", "EVERY"]) {
            Quantifier::AnyAndEvery
        } else if self.eat_word("ANY") {
            Quantifier::Any
        } else {
            self.expect_word("EVERY")?;
            Quantifier::Every
        };
        let range = self.range()?;
        self.expect_word("SATISFIES")?;
        let satisfies = Box::new(self.expr()?);
        self.expect_word("END")?;
        Ok(ExprKind::Quantified {
            kind,
            range,
            satisfies,
        })
    }

    fn array_of(&mut self) -> Result<ExprKind, QueryError> {
        self.at += 1;
        let item = Box::new(self.expr()?);
        self.expect_word("FOR")?;
        let range = self.range()?;
        let when = self.when()?;
        Ok(ExprKind::ArrayOf { item, range, when })
    }

    fn object_of(&mut self) -> Result<ExprKind, QueryError> {
        self.at += 1;
        let name = Box::new(self.expr()?);
        self.expect_sign(":")?;
        let item = Box::new(self.expr()?);
        self.expect_word("FOR")?;
        let range = self.range()?;
        let when = self.when()?;
        Ok(ExprKind::ObjectOf {
            name,
            item,
            range,
            when,
        })
    }

    /// `[WHEN condition] END`
    fn when(&mut self) -> Result<Option<Box<Expr>>, QueryError> {
        let when = match self.eat_word("WHEN") {
            true => Some(Box::new(self.expr()?)),
            false => None,
        };
        self.expect_word("END")?;
        Ok(when)
    }

    fn range(&mut self) -> Result<Range, QueryError> {
        let first = self.ident("a variable name")?;
        let (name, item) = match self.eat_sign(":") {
            true => (Some(first), self.ident("a variable name")?),
            false => (None, first),
        };
        let within = self.eat_word("WITHIN");
        if !within {
            self.expect_word("IN")?;
        }
        Ok(Range {
            name,
            item,
            within,
            source: Box::new(self.expr()?),
        })
    }

    fn cast(&mut self) -> Result<ExprKind, QueryError> {
        self.at += 2;
        let value = Box::new(self.expr()?);
        if !self.eat_word("AS") {
            self.expect_sign(",")?;
        }
        let token = self.advance();
        let shown = token.span.text(self.text);
        let name = shown.trim_matches(['\'', '"']).to_ascii_lowercase();
        let kind = match name.as_str() {
            "string" => CastType::String,
            "integer" | "int" => CastType::Integer,
            "float" | "number" => CastType::Float,
            "boolean" | "bool" => CastType::Boolean,
            "binary" => CastType::Binary,
            _ => {
                return Err(self.error(
                    token.span,
                    "expected string, integer, float, boolean or binary as the type of CAST",
                ));
            }
        };
        self.expect_sign(")")?;
        Ok(ExprKind::Cast(value, kind))
    }

    /// `TRIM([LEADING|TRAILING|BOTH] [chars] FROM text)`, or the plain call `TRIM(text [, chars])`.
    fn trim(&mut self) -> Result<ExprKind, QueryError> {
        let span = self.advance().span;
        self.at += 1;
        let mut function = "trim";
        let mut special = false;
        for (word, name) in [
            ("BOTH", "trim"),
            ("LEADING", "ltrim"),
            ("TRAILING", "rtrim"),
        ] {
            // The word may also be a field: then a bracket or comma follows.
            let field = matches!(self.peek_at(1).kind, TokenKind::Sign(")" | "," | "." | "["));
            if !special && self.at_word(word) && !field {
                self.at += 1;
                function = name;
                special = true;
            }
        }
        let mut args = Vec::new();
        if special && self.eat_word("FROM") {
            args.push(self.expr()?);
        } else {
            args = self.comma_list(Self::expr)?;
            if args.len() == 1 && self.eat_word("FROM") {
                args.insert(0, self.expr()?);
            }
        }
        self.expect_sign(")")?;
        Ok(call(function, span, args))
    }

    /// `POSITION(part IN text)`
    fn position(&mut self) -> Result<ExprKind, QueryError> {
        let span = self.advance().span;
        self.at += 1;
        let part = self.expr_over(COMPARE)?;
        if !self.eat_word("IN") {
            self.expect_sign(",")?;
        }
        let text = self.expr()?;
        self.expect_sign(")")?;
        Ok(call("pos", span, vec![text, part]))
    }

    /// A string literal where nothing else may stand.
    pub(super) fn string(&mut self, what: &str) -> Result<Ident, QueryError> {
        let token = self.peek();
        if token.kind != TokenKind::Text {
            return Err(self.expected(what, &[]));
        }
        self.at += 1;
        Ok(Ident {
            name: self.unescaped(token.span)?,
            span: token.span,
        })
    }

    /// Closes a node: its place ends at the token just read, and its height is within the bound.
    fn node(&mut self, kind: ExprKind, start: Span) -> Result<Expr, QueryError> {
        let span = start.to(self.last_span());
        let levels = 1 + kind.child_levels();
        if levels > limits::NESTING_LEVELS_MAX {
            return Err(self.too_deep(span));
        }
        self.height = self.height.max(levels);
        Ok(Expr { kind, span, levels })
    }

    pub(super) fn too_deep(&self, span: Span) -> QueryError {
        self.error(
            span,
            format!(
                "expression nests deeper than {} levels",
                limits::NESTING_LEVELS_MAX
            ),
        )
    }
}

fn call(name: &str, span: Span, args: Vec<Expr>) -> ExprKind {
    ExprKind::Call(Call {
        name: Ident {
            name: name.to_owned(),
            span,
        },
        args,
        distinct: false,
        star: false,
    })
}

/// An integer that does not fit 64 bits is a float, as in JSON.
fn integer(digits: &str, negative: bool) -> Value {
    let signed = |text: &str| match negative {
        true => format!("-{text}"),
        false => text.to_owned(),
    };
    let hex = digits.strip_prefix("0x").or(digits.strip_prefix("0X"));
    let whole = match hex {
        Some(hex) => i64::from_str_radix(&signed(hex), 16).ok(),
        None if negative => signed(digits).parse().ok(),
        None => digits.parse().ok(),
    };
    if let Some(whole) = whole {
        return Value::Int(whole);
    }
    let float = match hex {
        Some(hex) => hex.chars().fold(0.0, |sum, digit| {
            sum * 16.0 + f64::from(digit.to_digit(16).unwrap_or(0))
        }),
        None => digits.parse().unwrap_or(f64::MAX),
    };
    let float = if negative { -float } else { float };
    Value::float(float).unwrap_or(Value::Float(f64::MAX.copysign(float)))
}

fn chain_precedence(rest: &[(ArithOp, Expr)]) -> Option<u8> {
    rest.first().map(|(op, _)| of_arithmetic(*op))
}

impl ExprKind {
    /// The height of the highest child; 0 for a leaf.
    fn child_levels(&self) -> usize {
        let mut levels = match self {
            Self::Subquery(_, query) => query.levels,
            _ => 0,
        };
        self.each_child(&mut |child| levels = levels.max(child.levels));
        levels
    }

    /// Calls `visit` with every direct child. Those inside a subquery are none.
    #[expect(
        clippy::too_many_lines,
        reason = "one short arm for each kind of expression"
    )]
    pub(crate) fn each_child<'e>(&'e self, visit: &mut dyn FnMut(&'e Expr)) {
        match self {
            Self::Literal(_)
            | Self::Missing
            | Self::Param(_)
            | Self::Name(_)
            | Self::Subquery(..) => {}
            Self::Access(base, steps) => {
                visit(base);
                for step in steps {
                    if let Step::Index(index) = step {
                        visit(index);
                    }
                }
            }
            Self::Array(items) | Self::And(items) | Self::Or(items) | Self::Xor(items) => {
                items.iter().for_each(visit);
            }
            Self::Object(fields) => fields.iter().for_each(|(name, value)| {
                visit(name);
                visit(value);
            }),
            Self::Not(inner) | Self::Negate(inner) | Self::Cast(inner, _) => visit(inner),
            Self::Is { value, .. } => visit(value),
            Self::Chain(first, rest) => {
                visit(first);
                rest.iter().for_each(|(_, operand)| visit(operand));
            }
            Self::Compare(_, left, right) => {
                visit(left);
                visit(right);
            }
            Self::In { value, list, .. } => {
                visit(value);
                visit(list);
            }
            Self::Between {
                value, low, high, ..
            } => [value, low, high].into_iter().for_each(|e| visit(e)),
            Self::Like {
                value,
                pattern,
                escape,
                ..
            } => {
                visit(value);
                visit(pattern);
                escape.iter().for_each(|e| visit(e));
            }
            Self::Call(call) => call.args.iter().for_each(visit),
            Self::Case {
                operand,
                branches,
                otherwise,
            } => {
                operand.iter().for_each(|e| visit(e));
                for (when, then) in branches {
                    visit(when);
                    visit(then);
                }
                otherwise.iter().for_each(|e| visit(e));
            }
            Self::Quantified {
                range, satisfies, ..
            } => {
                visit(&range.source);
                visit(satisfies);
            }
            Self::ArrayOf { item, range, when } => {
                visit(item);
                visit(&range.source);
                when.iter().for_each(|e| visit(e));
            }
            Self::ObjectOf {
                name,
                item,
                range,
                when,
            } => {
                visit(name);
                visit(item);
                visit(&range.source);
                when.iter().for_each(|e| visit(e));
            }
        }
    }
}
