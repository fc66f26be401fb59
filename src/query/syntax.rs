//! Words and parentheses of both languages, with their lines.

/// What stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Open,
    Close,
    /// Anything between blanks and parentheses.
    Word(&'a str),
    /// What stands between double quotes.
    Text(&'a str),
    /// A quote that is never closed.
    Unclosed,
}

/// The tokens of a text with their lines, from 1. A semicolon begins a comment.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = (usize, Token<'_>)> {
    let (mut rest, mut line) = (text, 1);
    std::iter::from_fn(move || {
        loop {
            let first = rest.chars().next()?;
            match first {
                '\n' => {
                    line += 1;
                    rest = &rest[1..];
                }
                ';' => rest = &rest[rest.find('\n').unwrap_or(rest.len())..],
                c if c.is_whitespace() || c == '\u{feff}' => rest = &rest[c.len_utf8()..],
                '(' | ')' => {
                    rest = &rest[1..];
                    return Some((line, if first == '(' { Token::Open } else { Token::Close }));
                }
                '"' => {
                    let at = line;
                    let Some(end) = rest[1..].find('"') else {
                        rest = "";
                        return Some((at, Token::Unclosed));
                    };
                    let inside = &rest[1..=end];
                    line += inside.matches('\n').count();
                    rest = &rest[end + 2..];
                    return Some((at, Token::Text(inside)));
                }
                _ => {
                    let ends = |c: char| c.is_whitespace() || matches!(c, '(' | ')' | ';' | '"');
                    let mut end = rest.find(ends).unwrap_or(rest.len());
                    // `[1, 28]` is one word, blanks and all.
                    if let Some(open) = rest[..end].rfind('[')
                        && !rest[open..end].contains(']')
                        && let Some(close) = rest[open..].find(']')
                        && rest[open + 1..open + close]
                            .chars()
                            .all(|c| c.is_ascii_digit() || c == ',' || c.is_whitespace())
                    {
                        end = open + close + 1;
                    }
                    let word = &rest[..end];
                    let at = line;
                    line += word.matches('\n').count();
                    rest = &rest[end..];
                    return Some((at, Token::Word(word)));
                }
            }
        }
    })
}

/// A word for a message, cut where it is long.
pub(super) fn short(word: &str) -> String {
    match word.char_indices().nth(60) {
        Some((end, _)) => format!("`{}...`", &word[..end]),
        None => format!("`{word}`"),
    }
}
