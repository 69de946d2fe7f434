//! Reads `targets.txt`, for the policy's own tests and for those that send its targets through a tunnel.

/// One line: what the policy says of a target.
#[derive(Clone, Debug)]
#[allow(dead_code, reason = "each test reads its own part")]
pub(crate) struct Row {
    /// Number of the line.
    pub number: usize,
    /// The policy it is decided by.
    pub section: &'static str,
    /// `allow`, or the code of the refusal.
    pub expected: &'static str,
    /// The target as written in the table.
    pub method: &'static str,
    /// Its escapes resolved.
    pub target: String,
}

/// The whole table, which explains its own notation.
pub(crate) fn rows() -> Vec<Row> {
    let mut section = "";
    let mut rows = Vec::new();
    for (index, line) in TABLE.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            section = name.split(']').next().unwrap_or_default();
            continue;
        }
        let (expected, rest) = line.split_once(' ').unwrap();
        let (method, target) = rest.trim_start().split_once(' ').unwrap();
        rows.push(Row {
            number: index + 1,
            section,
            expected,
            method,
            target: unescape(target.trim_start_matches(' ')),
        });
    }
    rows
}

/// `\xNN`, `\u{N}`, `\\`, `\empty`.
fn unescape(text: &str) -> String {
    if text == r"\empty" {
        return String::new();
    }
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap().to_owned();
    while let Some(part) = parts.next() {
        let (digits, rest) = if part.is_empty() {
            plain.push('\\');
            plain.push_str(parts.next().unwrap_or_default());
            continue;
        } else if let Some(part) = part.strip_prefix("u{") {
            part.split_once('}').unwrap()
        } else {
            part.strip_prefix('x').unwrap().split_at(2)
        };
        plain.push(char::from_u32(u32::from_str_radix(digits, 16).unwrap()).unwrap());
        plain.push_str(rest);
    }
    plain
}

const TABLE: &str = include_str!("targets.txt");
