//! Numbers and lines of text for a terminal, as `agent status` and the other tables show them.

/// `1 request`, `2 requests`.
pub(crate) fn count(number: u64, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// Wraps between words; continuation lines are indented to the column after the line's first word.
pub(crate) fn wrapped(line: &str, width: usize) -> String {
    let body = line.trim_start_matches(['\n', ' ']);
    let before = line.strip_suffix(body).unwrap_or_default();
    let begin = before.len() - before.matches('\n').count();
    let column = body.find("  ").map(|at| {
        let rest = &body[at..];
        begin + visible(&body[..at]) + (rest.len() - rest.trim_start().len())
    });
    let indent = column
        .filter(|column| column * 2 < width)
        .unwrap_or(begin + 2);
    let (mut out, mut at) = (String::new(), 0);
    for piece in line.split_inclusive(' ') {
        let long = visible(piece.trim_end_matches(' '));
        if at + long > width && at > indent {
            out.truncate(out.trim_end_matches(' ').len());
            out.push('\n');
            out.push_str(&" ".repeat(indent));
            at = indent;
            if piece == " " {
                continue;
            }
        }
        out.push_str(piece);
        at += visible(piece);
    }
    out
}

/// Columns, not counting color sequences.
fn visible(text: &str) -> usize {
    let mut columns = 0;
    let mut in_sequence = false;
    for character in text.chars().filter(|c| *c != '\n') {
        match character {
            '\u{1b}' => in_sequence = true,
            'm' if in_sequence => in_sequence = false,
            _ if in_sequence => {}
            _ => columns += 1,
        }
    }
    columns
}

/// Two units at most: `4.2 s`, `3 min`, `2 h 5 min`, `9 d 3 h`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..=9 => format!("{seconds:.1} s"),
        10..=119 => format!("{whole} s"),
        120..=3599 => format!("{} min", whole / 60),
        3600..=86_399 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// In units of 1024, with one decimal place: `512 B`, `12.0 KiB`.
pub(crate) fn bytes(n: u64) -> String {
    match n {
        0..=1023 => format!("{n} B"),
        1024..=1_048_575 => format!("{:.1} KiB", n as f64 / 1024.0),
        1_048_576..=1_073_741_823 => format!("{:.1} MiB", n as f64 / 1_048_576.0),
        _ => format!("{:.1} GiB", n as f64 / 1_073_741_824.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_keeps_its_indentation() {
        let line = "     tunnel   \u{1b}[31mFAILED\u{1b}[0m    never proven";
        assert_eq!(wrapped(line, 80), line);
        let cause =
            "         cause:  the gateway refuses to listen on 127.0.0.1:8082 for this user";
        assert_eq!(
            wrapped(cause, 50),
            "         cause:  the gateway refuses to listen on\n                 127.0.0.1:8082 for this user"
        );
        let connection = "  0  acme@127.0.0.1:2222  serving for 62 s  3 channels  16.0 MiB in";
        for part in wrapped(connection, 40).lines().skip(1) {
            assert!(part.starts_with("     ") && part.len() <= 40, "{part:?}");
        }
        let heading = "jira-tunnel-agent 0.1.0  pid 1  up 5 s  PROVEN\n";
        assert_eq!(wrapped(heading, 80), heading);
        assert_eq!(wrapped("\noutlets", 80), "\noutlets");
        assert_eq!(
            wrapped("one-word-that-is-longer-than-all", 10),
            "one-word-that-is-longer-than-all"
        );
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!(count(1, "channel"), "1 channel");
        assert_eq!(count(0, "channel"), "0 channels");
    }
}
