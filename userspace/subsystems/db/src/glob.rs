//! Patterns of `KEYS`, `SCAN MATCH` and `CONFIG GET`: `*`, `?`, `[a-c]`, `[^x]`, and `\` before a literal.

/// Whether `text` matches `pattern`. Runs in time proportional to the product of their lengths: only the last `*` is retried.
pub fn matches(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            p += 1;
            star = Some((p, t));
            continue;
        }
        let step = match text.get(t) {
            None if p == pattern.len() => return true,
            None => None,
            Some(b) => one(&pattern[p..], *b, ignore_case),
        };
        match (step, star) {
            (Some(len), _) => {
                p += len;
                t += 1;
            }
            (None, Some((after, from))) if from < text.len() => {
                p = after;
                t = from + 1;
                star = Some((after, t));
            }
            (None, _) => return false,
        }
    }
}

/// How many bytes of the pattern the byte used up, or `None` if it does not match.
fn one(pattern: &[u8], byte: u8, ignore_case: bool) -> Option<usize> {
    let same = |a: u8, b: u8| if ignore_case { a.eq_ignore_ascii_case(&b) } else { a == b };
    match *pattern.first()? {
        b'?' => Some(1),
        b'[' => class(pattern, byte, ignore_case),
        b'\\' if pattern.len() > 1 => same(pattern[1], byte).then_some(2),
        b => same(b, byte).then_some(1),
    }
}

/// A class `[...]`. One that is not closed ends with the pattern, as in Redis.
fn class(pattern: &[u8], byte: u8, ignore_case: bool) -> Option<usize> {
    let fold = |b: u8| if ignore_case { b.to_ascii_lowercase() } else { b };
    let byte = fold(byte);
    let mut at = 1;
    let negated = pattern.get(at) == Some(&b'^');
    at += negated as usize;
    let mut found = false;
    loop {
        match (pattern.get(at).copied(), pattern.get(at + 1).copied(), pattern.get(at + 2).copied()) {
            (None, ..) => break,
            (Some(b'\\'), Some(literal), _) => {
                found |= fold(literal) == byte;
                at += 2;
            }
            (Some(b']'), ..) => {
                at += 1;
                break;
            }
            (Some(low), Some(b'-'), Some(high)) => {
                let (low, high) = (fold(low.min(high)), fold(low.max(high)));
                found |= (low..=high).contains(&byte);
                at += 3;
            }
            (Some(literal), ..) => {
                found |= fold(literal) == byte;
                at += 1;
            }
        }
    }
    (found != negated).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn matches_like_redis() {
        let yes = [
            ("*", ""),
            ("*", "abc"),
            ("a?c", "abc"),
            ("a*c", "abbbc"),
            ("a*b*c", "aXbYbc"),
            ("[abc]x", "bx"),
            ("[a-c]x", "cx"),
            ("[c-a]x", "bx"),
            ("[^a]x", "bx"),
            ("\\*", "*"),
            ("a[\\]]", "a]"),
            ("[a", "a"),
            ("h[^e]llo*", "hallo world"),
            ("**a", "ba"),
            ("", ""),
        ];
        for (p, t) in yes {
            assert!(matches(p.as_bytes(), t.as_bytes(), false), "{p} {t}");
        }
        let no = [
            ("a?c", "ac"),
            ("a*c", "ab"),
            ("[^a]x", "ax"),
            ("\\*", "x"),
            ("", "a"),
            ("A", "a"),
            ("a*", "ba"),
            ("?", ""),
        ];
        for (p, t) in no {
            assert!(!matches(p.as_bytes(), t.as_bytes(), false), "{p} {t}");
        }
        assert!(matches(b"SAVE", b"save", true));
        assert!(matches(b"[A-Z]ave", b"save", true));
    }

    #[test]
    fn many_stars_do_not_explode() {
        let pattern = b"a*".repeat(1000);
        assert!(!matches(&[&pattern[..], b"b"].concat(), &[b'a'; 5000], false));
    }
}
