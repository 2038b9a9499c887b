//! Statements out of text: where the semicolons are that end one.
//!
//! Strings, quoted names and comments are followed, so a semicolon inside them ends nothing.

/// Splits `text` behind every semicolon that ends a statement. Gives the complete statements without
/// their semicolon, empty ones left out, and the rest that no semicolon ends.
pub(crate) fn split(text: &str) -> (Vec<&str>, &str) {
    let mut complete = Vec::new();
    let mut start = 0;
    let mut scanner = Scanner::default();
    let bytes = text.as_bytes();
    for (at, &byte) in bytes.iter().enumerate() {
        if scanner.ends_statement(byte, bytes.get(at + 1).copied()) {
            let statement = text[start..at].trim();
            if !statement.is_empty() {
                complete.push(statement);
            }
            start = at + 1;
        }
    }
    (complete, &text[start..])
}

/// Whether `text` holds anything but space and comments.
pub(crate) fn is_blank(text: &str) -> bool {
    let mut scanner = Scanner::default();
    let bytes = text.as_bytes();
    bytes.iter().enumerate().all(|(at, &byte)| {
        let before = scanner.inside;
        scanner.ends_statement(byte, bytes.get(at + 1).copied());
        let comment = |inside| !matches!(inside, Inside::Code | Inside::Quote(_));
        byte.is_ascii_whitespace() || comment(before) || comment(scanner.inside)
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Inside {
    #[default]
    Code,
    /// A string or quoted name that ends with this byte.
    Quote(u8),
    /// To the end of the line.
    Line,
    /// Between the slash and the star of the opening mark.
    BlockStart,
    /// To the closing mark.
    Block,
    /// Between the star and the slash of the closing mark.
    BlockEnd,
}

#[derive(Debug, Default)]
struct Scanner {
    inside: Inside,
    escaped: bool,
}

impl Scanner {
    fn ends_statement(&mut self, byte: u8, next: Option<u8>) -> bool {
        match self.inside {
            Inside::Code => match byte {
                b'\'' | b'"' | b'`' => self.inside = Inside::Quote(byte),
                b'-' if next == Some(b'-') => self.inside = Inside::Line,
                b'/' if next == Some(b'*') => self.inside = Inside::BlockStart,
                b';' => return true,
                _ => {}
            },
            Inside::Quote(_) if self.escaped => self.escaped = false,
            // A backslash escapes in strings, not in quoted names.
            Inside::Quote(end) if byte == b'\\' && end != b'`' => self.escaped = true,
            Inside::Quote(end) if byte == end => self.inside = Inside::Code,
            Inside::Line if byte == b'\n' => self.inside = Inside::Code,
            Inside::BlockStart => self.inside = Inside::Block,
            Inside::Block if byte == b'*' && next == Some(b'/') => self.inside = Inside::BlockEnd,
            Inside::BlockEnd => self.inside = Inside::Code,
            Inside::Quote(_) | Inside::Line | Inside::Block => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn semicolons_end_statements_only_in_code() {
        let check = |text: &str, complete: &[&str], rest: &str| {
            assert_eq!(split(text), (complete.to_vec(), rest), "{text}");
        };
        check("SELECT 1; SELECT 2", &["SELECT 1"], " SELECT 2");
        check("a;;b;", &["a", "b"], "");
        check("';' \";\" `;` ;", &["';' \";\" `;`"], "");
        check(r"'\';' ;x", &[r"'\';'"], "x");
        check("`\\`;", &["`\\`"], "");
        check("-- ;\na;", &["-- ;\na"], "");
        check("/* ; */ a;", &["/* ; */ a"], "");
        check("'open;", &[], "'open;");
        check("/*/ ; */;", &["/*/ ; */"], "");
    }

    #[test]
    fn comments_and_space_are_blank() {
        assert!(is_blank("  -- x\n /* y */ "));
        assert!(is_blank(""));
        assert!(!is_blank("a -- x"));
        assert!(!is_blank("'-- x'"));
    }
}
