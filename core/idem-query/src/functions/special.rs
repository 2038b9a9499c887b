//! What is called like a function but is a form of its own: CAST, the keyword forms, aggregates.

use super::{FunctionExample, FunctionInfo, example};

const fn form(
    name: &'static str,
    category: &'static str,
    signature: &'static str,
    description: &'static str,
    examples: &'static [FunctionExample],
) -> FunctionInfo {
    FunctionInfo {
        name,
        category,
        signature,
        description,
        examples,
    }
}

pub(super) const FORMS: &[FunctionInfo] = &[
    form(
        "cast",
        "types",
        "CAST(value AS type)",
        "The value as a string, integer, float, boolean or binary; `cast(value, 'type')` is the \
         same. A string may hold a number or true or false, a number becomes true if it is not 0, \
         a fraction is cut off, binary is the UTF-8 text. Null stays null; what has no such form \
         is MISSING.",
        &[
            example("CAST('42' AS integer)", "42"),
            example("cast(2.9, 'integer')", "2"),
            example("CAST(1 AS string)", r#""1""#),
            example("CAST('true' AS boolean)", "true"),
            example("CAST(CAST('a' AS binary) AS string)", r#""a""#),
            example("CAST('abc' AS integer)", "MISSING"),
        ],
    ),
    form(
        "position",
        "strings",
        "POSITION(part IN text)",
        "Where the part begins in the text, in characters from 0; -1 if it is not in it. The same \
         as `pos(text, part)`.",
        &[example("POSITION('ll' IN 'hello')", "2")],
    ),
    form(
        "count",
        "aggregates",
        "COUNT(*) | COUNT([DISTINCT] value)",
        "How many rows there are, or how many values are not null, MISSING or false; 0 over no \
         rows.",
        &[
            example("COUNT(*)", "1"),
            example("COUNT(null)", "0"),
            example("COUNT(false)", "0"),
        ],
    ),
    form(
        "sum",
        "aggregates",
        "SUM([DISTINCT] value)",
        "The sum of the numbers; an integer if all are. MISSING over no numbers.",
        &[example("SUM(2)", "2"), example("SUM('a')", "MISSING")],
    ),
    form(
        "avg",
        "aggregates",
        "AVG([DISTINCT] value)",
        "The mean of the numbers, as a float. MISSING over no numbers.",
        &[example("AVG(2)", "2.0")],
    ),
    form(
        "min",
        "aggregates",
        "MIN([DISTINCT] value)",
        "The least value in the order of ORDER BY, null and MISSING aside.",
        &[example("MIN('a')", r#""a""#)],
    ),
    form(
        "max",
        "aggregates",
        "MAX([DISTINCT] value)",
        "The greatest value in the order of ORDER BY, null and MISSING aside.",
        &[example("MAX(3)", "3")],
    ),
    form(
        "median",
        "aggregates",
        "MEDIAN([DISTINCT] value)",
        "The number in the middle when they are in order. MISSING over no numbers.",
        &[example("MEDIAN(3)", "3")],
    ),
    form(
        "mid",
        "aggregates",
        "MID([DISTINCT] value)",
        "Half way between the least and the greatest number. MISSING over no numbers.",
        &[example("MID(3)", "3")],
    ),
    form(
        "conflicts",
        "documents",
        "conflicts(path) | conflicts(alias.path)",
        "All values of a field that peers wrote without knowing of each other: an array, the visible \
         one first and the others newest first. Empty where there is no conflict, MISSING where the \
         document has no such field.",
        &[],
    ),
    form(
        "document_version",
        "documents",
        "document_version() | document_version(alias)",
        "Which commits the document was made of: an object with the number of the newest commit by \
         each actor. It differs after every change of the document.",
        &[],
    ),
];
