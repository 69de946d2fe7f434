//! Removes what looks like a secret: a header with a credential, a login in a URL, values of a query, `name=value` with a
//! telling name, a private key.

use super::redactor::REMOVED;

/// The text without secrets, and how many were removed.
pub(super) fn redact(text: &str) -> (String, usize) {
    let mut clean = String::with_capacity(text.len());
    let mut count = 0;
    let mut in_key = false;
    for line in text.split_inclusive('\n') {
        // The key itself is Base64 and looks like anything.
        let begins = line.contains("-----BEGIN") && line.contains("PRIVATE KEY-----");
        if begins || in_key {
            in_key = !line.contains("-----END");
            if begins {
                count += 1;
                clean.push_str(REMOVED);
                clean.push('\n');
            }
            continue;
        }
        words(line, &mut clean, &mut count);
    }
    (clean, count)
}

fn words(line: &str, clean: &mut String, count: &mut usize) {
    let mut before = "";
    for piece in line.split_inclusive(is_separator) {
        let word = piece.trim_end_matches(is_separator);
        let (gap, after) = (&piece[word.len()..], before);
        if !word.is_empty() {
            before = word;
        }
        match redact_word(word, after) {
            Some(rest) => {
                *count += 1;
                clean.push_str(&rest);
            }
            None => clean.push_str(word),
        }
        clean.push_str(gap);
    }
}

/// The word without its secret; `None`: it has none.
fn redact_word(word: &str, before: &str) -> Option<String> {
    let scheme = before.trim_end_matches(':').to_ascii_lowercase();
    if ["bearer", "basic"].contains(&scheme.as_str()) && is_credential(word) {
        return Some(REMOVED.to_owned());
    }
    if let Some((scheme, rest)) = word.split_once("://") {
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if let Some((login, _)) = authority.rsplit_once('@')
            && login.contains(':')
            && !login.ends_with(&format!(":{REMOVED}"))
        {
            let user = login.split(':').next().unwrap_or_default();
            let rest =
                query(&rest[login.len()..]).unwrap_or_else(|| rest[login.len()..].to_owned());
            return Some(format!("{scheme}://{user}:{REMOVED}{rest}"));
        }
    }
    if let Some((name, value)) = word.split_once('=')
        && !value.is_empty()
        && value != REMOVED
        && is_secret_name(name)
    {
        return Some(format!("{name}={REMOVED}"));
    }
    query(word)
}

/// Values of a query become `*`, as in the audit line.
fn query(word: &str) -> Option<String> {
    let (path, query) = word.split_once('?')?;
    let is_value = |pair: &str| {
        pair.split_once('=')
            .is_some_and(|(_, value)| !["", "*"].contains(&value))
    };
    if !query.split('&').any(is_value) {
        return None;
    }
    let names = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) => format!("{name}=*"),
        None => "*".to_owned(),
    });
    Some(format!("{path}?{}", names.collect::<Vec<_>>().join("&")))
}

/// Whether it looks like a credential: `authentication` after the word Basic does not.
fn is_credential(word: &str) -> bool {
    let kinds: [fn(&u8) -> bool; 3] = [
        u8::is_ascii_digit,
        u8::is_ascii_uppercase,
        u8::is_ascii_lowercase,
    ];
    let kinds = kinds
        .iter()
        .filter(|kind| word.bytes().any(|byte| kind(&byte)))
        .count();
    word.len() >= MIN_CREDENTIAL && word.is_ascii() && (kinds >= 2 || word.ends_with('='))
}

fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let alike = [
        "password",
        "passwd",
        "secret",
        "token",
        "jsessionid",
        "oauth_signature",
        "api_key",
        "apikey",
    ];
    alike.iter().any(|word| name.ends_with(word))
}

fn is_separator(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '"' | '\'' | '`' | ',' | ';' | '<' | '>' | '{' | '}' | '(' | ')'
        )
}

/// Characters: `admin:admin` has 16 in Base64, the shortest tokens more.
const MIN_CREDENTIAL: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_taken_out() {
        for (text, clean) in [
            (
                "Authorization: Bearer NjQ3ODkwMTIz",
                "Authorization: Bearer [removed]",
            ),
            (
                "authorization: Basic YWRtaW46YWRtaW4=",
                "authorization: Basic [removed]",
            ),
            (
                "HTTPS_PROXY=http://svc:pa55@proxy:3128/",
                "HTTPS_PROXY=http://svc:[removed]@proxy:3128/",
            ),
            (
                "GET /rest?jql=a&os_password=b&c HTTP/1.1",
                "GET /rest?jql=*&os_password=*&* HTTP/1.1",
            ),
            ("with JIRA_TOKEN=abc, set", "with JIRA_TOKEN=[removed], set"),
            (
                "\"url\":\"http://a:b@c/x?y=z\"",
                "\"url\":\"http://a:[removed]@c/x?y=*\"",
            ),
            (
                "Cookie: JSESSIONID=ABC; a",
                "Cookie: JSESSIONID=[removed]; a",
            ),
        ] {
            assert_eq!(redact(text), (clean.to_owned(), 1), "{text}");
        }
    }

    #[test]
    fn a_private_key_is_taken_out_whole() {
        let text = "a\n-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaA\n-----END OPENSSH PRIVATE KEY-----\nz\n";
        assert_eq!(redact(text), ("a\n[removed]\nz\n".to_owned(), 1));
    }

    #[test]
    fn what_the_agent_itself_writes_stays_as_it_is() {
        for text in [
            "Jira says: Basic authentication is switched off\n",
            "token_file = \"jira-pat\"  # agent.toml:12\n",
            "\"target\":\"/jira/rest/api/2/search?expand=*&*\",\n",
            "via http://proxy.corp:3128, gw1.vendor.example:443\n",
            "pat, user acme-bot\r\n  ssh acme@gw1.vendor.example\n",
            "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        ] {
            assert_eq!(redact(text), (text.to_owned(), 0));
        }
    }
}
