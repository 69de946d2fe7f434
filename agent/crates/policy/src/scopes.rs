//! Which scopes of an OAuth token the rules in use need: of Jira Cloud by the table of its requests, of Jira Data Center
//! by whether a rule lets a request change something.

use super::{
    CompiledPolicy,
    pattern::{PathPattern, SegmentComparison},
    rules::PolicyRule,
    scope_table::{SCOPE_TABLE, ScopeRow},
};
use http::Method;

/// A request to Jira Cloud that a rule opens. Cloud answers it to a token with all of its classic scopes, or with all of
/// its granular ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScopedRequest {
    /// The preset, or the entry of the list: `preset ticketing`, `allow[0]`.
    pub source: String,
    /// Method and path as a rule writes them: `GET /rest/api/2/issue/{issue}/comment`.
    pub request: String,
    /// The classic scopes. Empty: there are none.
    pub classic: Vec<&'static str>,
    /// The granular scopes. Empty: Atlassian's reference does not state them.
    pub granular: Vec<&'static str>,
}

/// A rule that lets a request change something in Jira.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangingRule {
    /// The preset, or the entry of the list: `preset ticketing`, `allow[0]`.
    pub source: String,
    /// The rule as written.
    pub rule: String,
}

/// One request of the table, in one version of the API.
struct CloudRequest {
    method: Method,
    path: String,
    pattern: PathPattern,
    /// A path that matches the pattern.
    sample: Vec<String>,
    row: &'static ScopeRow,
    /// Text in the table; the versions of one request share it.
    text: &'static str,
}

impl CompiledPolicy {
    /// The requests to Jira Cloud that the policy allows, those of one source together. Requests without an entry in the
    /// table are left out: their scopes are not known. A request that several sources open is in the list for each.
    pub fn cloud_requests(&self) -> Vec<ScopedRequest> {
        let requests: Vec<CloudRequest> = cloud_requests()
            .filter(|request| !self.denies(&request.method, &request.sample))
            .collect();
        let mut found = Vec::new();
        for (source, rules) in self.by_source() {
            let samples = rules.iter().map(|rule| sample_paths(rule.path_text()));
            let rules: Vec<_> = rules.iter().copied().zip(samples).collect();
            let mut last = "";
            for request in &requests {
                let opens = |(rule, samples): &(&PolicyRule, Vec<Vec<String>>)| {
                    rule.method_matches(&request.method)
                        && (rule.matches_path(&borrowed(&request.sample))
                            || samples.iter().any(|path| request.matches(path)))
                };
                if request.text != last && rules.iter().any(opens) {
                    last = request.text;
                    found.push(request.opened_by(source));
                }
            }
        }
        found
    }

    /// The first rule of each source that lets a request change something: whatever is no GET or HEAD, except what Jira
    /// has as POST for its length alone.
    pub fn changing_rules(&self) -> Vec<ChangingRule> {
        let templates = CHANGES_NOTHING.iter();
        let harmless: Vec<_> = templates
            .filter_map(|path| PathPattern::parse(path).ok())
            .collect();
        let changes = |method: &Method, path: &[&str]| {
            let is_harmless =
                |pattern: &PathPattern| pattern.matches(path, SegmentComparison::Exact);
            *method != Method::POST || !harmless.iter().any(is_harmless)
        };
        let is_changing = |rule: &&&PolicyRule| {
            sample_paths(rule.path_text()).iter().any(|path| {
                CHANGING.iter().any(|method| {
                    rule.method_matches(method)
                        && changes(method, &borrowed(path))
                        && !self.denies(method, path)
                })
            })
        };
        let first = |(source, rules): (&str, Vec<&PolicyRule>)| {
            let rule = rules.iter().find(is_changing)?;
            Some(ChangingRule {
                source: source.to_owned(),
                rule: rule.text().to_owned(),
            })
        };
        self.by_source().into_iter().filter_map(first).collect()
    }

    fn denies(&self, method: &Method, path: &[String]) -> bool {
        let path = borrowed(path);
        self.deny.iter().any(|rule| rule.matches(method, &path))
    }

    /// The allow rules, those of a preset together.
    fn by_source(&self) -> Vec<(&str, Vec<&PolicyRule>)> {
        let mut sources: Vec<(&str, Vec<&PolicyRule>)> = Vec::new();
        for rule in &self.allow {
            match sources
                .iter_mut()
                .find(|(known, _)| *known == rule.source())
            {
                Some((_, rules)) => rules.push(rule),
                None => sources.push((rule.source(), vec![rule])),
            }
        }
        sources
    }
}

impl CloudRequest {
    fn matches(&self, path: &[String]) -> bool {
        self.pattern
            .matches(&borrowed(path), SegmentComparison::Exact)
    }

    fn opened_by(&self, source: &str) -> ScopedRequest {
        ScopedRequest {
            source: source.to_owned(),
            request: format!("{} {}", self.method, self.path),
            classic: self.row.classic.split_whitespace().collect(),
            granular: granular(self.row),
        }
    }
}

/// Every request of the table, with a value in each place of its path and without a source: for an imitation of Jira Cloud to
/// compare itself with.
pub fn documented_scopes() -> impl Iterator<Item = ScopedRequest> {
    cloud_requests().map(|request| ScopedRequest {
        request: format!("{} /{}", request.method, request.sample.join("/")),
        ..request.opened_by("")
    })
}

/// The requests of the table, each version of the API for itself, one after the other.
fn cloud_requests() -> impl Iterator<Item = CloudRequest> {
    let texts = SCOPE_TABLE
        .iter()
        .flat_map(|row| row.requests.iter().map(move |text| (row, *text)));
    texts.flat_map(|(row, text)| {
        let (method, path) = text.split_once(' ').unwrap_or_default();
        let versions = versions(path).into_iter();
        versions.filter_map(move |path| {
            Some(CloudRequest {
                method: method.parse().ok()?,
                pattern: PathPattern::parse(&path).ok()?,
                sample: sample_paths(&path).into_iter().next()?,
                path,
                row,
                text,
            })
        })
    })
}

fn granular(row: &ScopeRow) -> Vec<&'static str> {
    let parts = row.granular.iter();
    let mut scopes: Vec<_> = parts.flat_map(|part| part.split_whitespace()).collect();
    scopes.sort_unstable();
    scopes.dedup();
    scopes
}

/// A path of the table in each version of its API.
fn versions(path: &str) -> Vec<String> {
    let (bases, rest): (&[&str], &str) = match path.split_at_checked(1) {
        Some(("A", rest)) => (&["/rest/api/2", "/rest/api/3", "/rest/api/latest"], rest),
        Some(("G", rest)) => (&["/rest/agile/1.0", "/rest/agile/latest"], rest),
        Some(("S", rest)) => (&["/rest/servicedeskapi"], rest),
        _ => (&[], ""),
    };
    bases.iter().map(|base| format!("{base}{rest}")).collect()
}

/// Paths that match a pattern, one for each combination of its alternatives. One that ends in `**` gives the paths before
/// it.
fn sample_paths(pattern: &str) -> Vec<Vec<String>> {
    let segments = pattern.split('/');
    let mut paths = vec![Vec::new()];
    for segment in segments.filter(|segment| !segment.is_empty() && *segment != "**") {
        let alternatives = segment.strip_prefix('(').and_then(|s| s.strip_suffix(')'));
        let options: Vec<&str> = match (segment, alternatives) {
            ("{issue}", _) => vec!["SAMPLE-900000001"],
            ("{project}", _) => vec!["SAMPLE"],
            ("{number}", _) => vec!["900000001"],
            ("*", _) => vec!["sample"],
            (_, Some(alternatives)) => alternatives.split('|').collect(),
            (literal, None) => vec![literal],
        };
        let longer = paths.iter().flat_map(|path| {
            options.iter().map(move |option| {
                let mut path: Vec<String> = path.clone();
                path.push((*option).to_owned());
                path
            })
        });
        paths = longer.take(MAX_SAMPLES).collect();
    }
    paths
}

fn borrowed(path: &[String]) -> Vec<&str> {
    path.iter().map(String::as_str).collect()
}

/// More alternatives than any preset has. A rule of the customer's with more is judged by these.
const MAX_SAMPLES: usize = 256;

const CHANGING: [Method; 4] = [Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// What is read by POST, and the requests of an OAuth login, for which no token is needed.
const CHANGES_NOTHING: [&str; 5] = [
    "/rest/api/(2|3|latest)/search",
    "/rest/api/(2|3|latest)/search/(jql|approximate-count)",
    "/rest/api/(2|3|latest)/worklog/list",
    "/rest/oauth2/(latest|1.0)/(token|revoke)",
    "/plugins/servlet/oauth/(request-token|access-token)",
];

#[cfg(test)]
mod tests;
