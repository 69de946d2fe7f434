//! Splits JQL text into tokens with their positions.

/// A token and the position of its first character.
#[derive(Clone, Debug)]
pub(super) struct JqlToken {
    pub kind: JqlTokenKind,
    pub line: usize,
    pub character: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum JqlTokenKind {
    /// An unquoted word, possibly a keyword.
    Word(String),
    Quoted(String),
    /// `=`, `!=`, `~`, `!~`, `<`, `<=`, `>`, `>=`, `!`, `&`, `&&`, `|`, `||`.
    Symbol(&'static str),
    Open,
    Close,
    Comma,
}

impl JqlToken {
    /// The token as error messages show it.
    pub(super) fn text(&self) -> &str {
        match &self.kind {
            JqlTokenKind::Word(text) | JqlTokenKind::Quoted(text) => text,
            JqlTokenKind::Symbol(text) => text,
            JqlTokenKind::Open => "(",
            JqlTokenKind::Close => ")",
            JqlTokenKind::Comma => ",",
        }
    }
}

pub(super) fn tokens(text: &str) -> Result<Vec<JqlToken>, String> {
    let mut tokens = Vec::new();
    let (mut line, mut character) = (1, 0);
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == '\n' {
            (line, character) = (line + 1, 0);
            rest = &rest[1..];
            continue;
        }
        character += 1;
        if first.is_whitespace() {
            rest = &rest[first.len_utf8()..];
            continue;
        }
        let (kind, length) = if let Some(symbol) = SYMBOLS.iter().find(|s| rest.starts_with(**s)) {
            (JqlTokenKind::Symbol(symbol), symbol.len())
        } else {
            match first {
                '(' => (JqlTokenKind::Open, 1),
                ')' => (JqlTokenKind::Close, 1),
                ',' => (JqlTokenKind::Comma, 1),
                '"' | '\'' => quoted(rest, first).ok_or_else(|| {
                    format!(
                        "Error in the JQL Query: The quoted string '{}' has not been completed. \
                         (line {line}, character {character})",
                        &rest[1..]
                    )
                })?,
                reserved if RESERVED.contains(reserved) => {
                    return Err(format!(
                        "Error in the JQL Query: The character '{reserved}' is a reserved JQL \
                         character. You must enclose it in a string or use the escape '\\u{:04x}' \
                         instead. (line {line}, character {character})",
                        u32::from(reserved)
                    ));
                }
                _ => {
                    let length = rest.find(is_word_end).unwrap_or(rest.len());
                    (JqlTokenKind::Word(rest[..length].to_owned()), length)
                }
            }
        };
        tokens.push(JqlToken {
            kind,
            line,
            character,
        });
        character += rest[..length].chars().count() - 1;
        rest = &rest[length..];
    }
    Ok(tokens)
}

/// A quoted string with resolved escapes, and its length in the text.
fn quoted(text: &str, quote: char) -> Option<(JqlTokenKind, usize)> {
    let mut value = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            }),
            end if end == quote => return Some((JqlTokenKind::Quoted(value), at + 1)),
            other => value.push(other),
        }
    }
    None
}

fn is_word_end(character: char) -> bool {
    character.is_whitespace() || "()\",'=!~<>&|".contains(character) || RESERVED.contains(character)
}

/// Longer symbols first.
const SYMBOLS: &[&str] = &[
    "!=", "!~", "<=", ">=", "&&", "||", "=", "~", "<", ">", "!", "&", "|",
];
const RESERVED: &str = "?;*/%^$#{}+";
