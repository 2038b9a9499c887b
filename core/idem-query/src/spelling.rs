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
}
