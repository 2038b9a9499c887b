//! Which known word a misspelled one is nearest to.

/// The candidate within a third of its length in edits (case aside), the nearest first.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    // Longer words are data, not misspellings, and the distance is quadratic.
    if word.len() > 64 {
        return None;
    }
    candidates
        .filter_map(|candidate| {
            // A clause of several words is recognised by its first one.
            let first = candidate.split(' ').next().unwrap_or(candidate);
            let edits = distance(&word.to_ascii_lowercase(), &first.to_ascii_lowercase());
            let allowed = (first.len().min(word.len()) / 3).max(1);
            let exact = edits == 0 && first.len() == candidate.len();
            (edits <= allowed && !exact).then_some((edits, candidate))
        })
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// The hint for a name that is none of those known: the nearest of them, and what they are; `none` if
/// there are none. Names behind the first twenty are left out.
pub(crate) fn among<'a>(
    word: &str,
    known: impl Iterator<Item = &'a str> + Clone,
    none: &str,
) -> String {
    const SHOWN_MAX: usize = 20;
    let mut shown: Vec<&str> = known.clone().take(SHOWN_MAX + 1).collect();
    let more = shown.len() > SHOWN_MAX;
    shown.truncate(SHOWN_MAX);
    let end = if more { ", .." } else { "" };
    let list = format!("{}{end}", shown.join(", "));
    // A singular, or a name that was cut, is a beginning.
    let start = word.to_ascii_lowercase();
    let begins = |name: &&str| start.len() > 2 && name.to_ascii_lowercase().starts_with(&start);
    let meant = nearest(word, known.clone()).or_else(|| known.clone().find(begins));
    match (meant, shown.as_slice()) {
        (_, []) => none.to_owned(),
        (Some(name), [_]) => format!("did you mean `{name}`?"),
        (Some(name), _) => format!("did you mean `{name}`? There are {list}"),
        (None, [only]) => format!("there is only {only}"),
        (None, _) => format!("there are {list}"),
    }
}

/// Levenshtein distance in bytes, with a swap of neighbours counted as one edit.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let mut edits = (last[j] + usize::from(a[i] != b[j]))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                edits = edits.min(before_last[j - 1] + 1);
            }
            row.push(edits);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_nearest_word() {
        let check = |word: &str, expected: Option<&str>| {
            let words = ["FROM", "WHERE", "ORDER BY", "upper"];
            assert_eq!(nearest(word, words.into_iter()), expected, "{word}");
        };
        check("FRM", Some("FROM"));
        check("form", Some("FROM"));
        check("wehre", Some("WHERE"));
        check("odrer", Some("ORDER BY"));
        check("uper", Some("upper"));
        check("status", None);
    }

    #[test]
    fn what_is_there_is_named() {
        let check = |word: &str, known: &[&str], expected: &str| {
            assert_eq!(among(word, known.iter().copied(), "nothing"), expected);
        };
        check("x", &[], "nothing");
        check("x", &["one"], "there is only one");
        check("oen", &["one"], "did you mean `one`?");
        check(
            "oen",
            &["one", "two"],
            "did you mean `one`? There are one, two",
        );
        check(
            "index",
            &["dual", "indexes"],
            "did you mean `indexes`? There are dual, indexes",
        );
        let many = ["name"; 21];
        assert!(among("x", many.into_iter(), "").ends_with("name, .."));
    }
}
