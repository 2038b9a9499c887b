//! The name that was meant.

/// The one of `names` that `word` is a misspelling of, most likely.
pub(super) fn nearest<'a>(word: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let simple = |name: &str| -> Vec<char> {
        let letters = name.chars().filter(|letter| letter.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect()
    };
    let word = simple(word);
    let far = |name: &str| distance(&word, &simple(name));
    let best = names.into_iter().min_by_key(|name| far(name))?;
    // A third of the letters, and of short words one.
    (far(best) <= (word.len() / 3).max(1)).then_some(best)
}

/// How many letters to add, take out or change.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (at, letter) in a.iter().enumerate() {
        let mut corner = row[0];
        row[0] = at + 1;
        for (column, other) in b.iter().enumerate() {
            let changed = corner + usize::from(letter != other);
            corner = row[column + 1];
            row[column + 1] = changed.min(corner + 1).min(row[column] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found_if_it_is_near() {
        let names = ["listen", "listen_http", "links_max", "mdns", "tls_key"];
        let check = |word, expected| assert_eq!(nearest(word, names), expected, "{word}");
        check("lisen", Some("listen"));
        check("listenHttp", Some("listen_http"));
        check("max_links", None);
        check("link_max", Some("links_max"));
        check("mdn", Some("mdns"));
        check("tlsKey", Some("tls_key"));
        check("discovery", None);
        check("", None);
        assert_eq!(nearest("x", []), None);
    }
}
