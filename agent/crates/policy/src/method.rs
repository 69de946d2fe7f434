//! Sets of request methods, as rules name them.

use http::Method;

/// The methods of one rule. Methods are case-sensitive (RFC 9110 §9.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RuleMethods(u8);

/// The list that a rule is in; `*` means more in a deny rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RuleEffect {
    /// `*` is every method but OPTIONS, which has to be named.
    Allow,
    /// `*` is every method.
    Deny,
}

impl RuleMethods {
    /// Reads `GET`, `GET,POST` or `*`. The error names the remedy.
    pub(super) fn parse(text: &str, effect: RuleEffect) -> Result<Self, String> {
        if text == "*" {
            return Ok(match effect {
                RuleEffect::Allow => Self(ALL & !OPTIONS),
                RuleEffect::Deny => Self(ALL),
            });
        }
        let mut methods = Self(0);
        for name in text.split(',') {
            methods.0 |= bit(name).ok_or_else(|| method_error(name))?;
        }
        Ok(methods)
    }

    /// Whether the rule covers this method. GET includes HEAD.
    pub(super) fn contains(self, method: &Method) -> bool {
        let Some(bit) = bit(method.as_str()) else {
            return false;
        };
        let bits = if bit == HEAD { HEAD | GET } else { bit };
        self.0 & bits != 0
    }
}

/// Whether a rule could name this method at all.
pub(super) fn is_known(method: &Method) -> bool {
    bit(method.as_str()).is_some()
}

fn bit(name: &str) -> Option<u8> {
    Some(match name {
        "GET" => GET,
        "HEAD" => HEAD,
        "POST" => 1 << 2,
        "PUT" => 1 << 3,
        "PATCH" => 1 << 4,
        "DELETE" => 1 << 5,
        "OPTIONS" => OPTIONS,
        _ => return None,
    })
}

fn method_error(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    match upper.as_str() {
        "" => "a method is missing; write like `GET,POST /rest/api/2/search`".to_owned(),
        "TRACE" | "CONNECT" => format!("{upper} is always refused and needs no rule"),
        "*" => "`*` stands alone: it already means every method".to_owned(),
        _ if bit(&upper).is_some() => format!("methods are upper-case: {upper}, not {name}"),
        _ => format!("{name:?} is no method; known: {METHOD_NAMES}, or `*`"),
    }
}

const GET: u8 = 1;
const HEAD: u8 = 1 << 1;
const OPTIONS: u8 = 1 << 6;
const ALL: u8 = (1 << 7) - 1;
pub(super) const METHOD_NAMES: &str = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn head_goes_with_get_but_not_the_other_way() {
        let get = RuleMethods::parse("GET", RuleEffect::Allow).unwrap();
        assert!(get.contains(&Method::HEAD));
        let head = RuleMethods::parse("HEAD", RuleEffect::Allow).unwrap();
        assert!(!head.contains(&Method::GET));
    }

    #[test]
    fn options_has_to_be_named_to_be_allowed() {
        let all = RuleMethods::parse("*", RuleEffect::Allow).unwrap();
        assert!(all.contains(&Method::DELETE) && !all.contains(&Method::OPTIONS));
        let all = RuleMethods::parse("*", RuleEffect::Deny).unwrap();
        assert!(all.contains(&Method::OPTIONS));
    }

    #[test]
    fn methods_are_case_sensitive() {
        let get = Method::from_bytes(b"get").unwrap();
        assert!(
            !RuleMethods::parse("*", RuleEffect::Allow)
                .unwrap()
                .contains(&get)
        );
    }
}
