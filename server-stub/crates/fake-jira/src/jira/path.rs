//! Normalizes a raw path as Tomcat does before Jira sees it: removes parameters, resolves dots, merges
//! repeated slashes, refuses encoded slashes. A client that reads a path differently reaches another
//! resource than it assumes, and this imitation must show that.

/// The normalized path, still percent-encoded; `None` means 400.
pub(super) fn normalize(raw: &str) -> Option<String> {
    let mut segments: Vec<String> = Vec::new();
    let raw = raw.strip_prefix('/')?;
    for raw_segment in raw.split('/') {
        let segment = raw_segment.split(';').next().unwrap_or_default();
        if segment.contains('\\') || REFUSED.iter().any(|bad| contains(segment, bad)) {
            return None;
        }
        let segment = decode_dots(segment);
        match segment.as_str() {
            "" | "." => {}
            ".." => {
                segments.pop()?;
            }
            _ => segments.push(segment),
        }
    }
    let slash = raw.ends_with('/') && !segments.is_empty();
    Some(format!(
        "/{}{}",
        segments.join("/"),
        if slash { "/" } else { "" }
    ))
}

fn contains(segment: &str, lower: &str) -> bool {
    segment.to_ascii_lowercase().contains(lower)
}

/// Decodes `%2e` before dots are resolved.
fn decode_dots(segment: &str) -> String {
    segment.replace("%2e", ".").replace("%2E", ".")
}

/// An encoded slash, backslash or NUL.
const REFUSED: &[&str] = &["%2f", "%5c", "%00"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_tomcat_reads_them() {
        for (raw, read) in [
            ("/rest/api/2/issue/DEMO-1", Some("/rest/api/2/issue/DEMO-1")),
            (
                "/rest/api/2/issue/DEMO-1/",
                Some("/rest/api/2/issue/DEMO-1/"),
            ),
            (
                "/rest;x=1/api/2/myself;jsessionid=1",
                Some("/rest/api/2/myself"),
            ),
            ("/rest//api/./2/x/../myself", Some("/rest/api/2/myself")),
            ("/rest/%2e%2E/secure", Some("/secure")),
            ("/rest/..;/secure", Some("/secure")),
            ("/..", None),
            ("/rest%2Fapi", None),
            ("/rest\\api", None),
            ("/a%20b", Some("/a%20b")),
            ("/", Some("/")),
        ] {
            assert_eq!(normalize(raw).as_deref(), read, "{raw}");
        }
    }
}
