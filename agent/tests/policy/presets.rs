//! The presets hold exactly the paths that were reviewed, no more and no fewer.

use crate::policy;
use agent::policy::presets;
use http::Method;
use std::collections::BTreeSet;

/// `A` = `/rest/api/(2|latest)`, `K` issue key or id, `P` project, `N` number.
const TICKETING: &str = "
GET       A/{serverInfo,myself,mypermissions,field,priority,status,resolution,issueLinkType}
GET       A/project  A/project/P  A/project/P/{components,versions,statuses,component,version}
GET       A/{priority,status,resolution,issueLinkType,issuetype,component,version}/N
GET       A/issuetype  A/issue/createmeta  A/issue/createmeta/P/issuetypes  A/issue/createmeta/P/issuetypes/N
GET       A/user/assignable/search  A/user
GET POST  A/search  A/search/jql
POST      A/issue  A/issueLink
GET PUT   A/issue/K            GET A/issue/K/editmeta
GET POST  A/issue/K/transitions  A/issue/K/comment  A/issue/K/remotelink
GET PUT   A/issue/K/comment/N  PUT A/issue/K/assignee
POST      A/issue/K/attachments
GET       A/attachment/{meta,N}  A/attachment/content/N  /secure/attachment/N/*  /status
";

const TWO_WAY_SYNC: &str = "
GET             A/issue/K/{watchers,votes,worklog,properties}
POST DELETE     A/issue/K/{watchers,votes}
POST            A/issue/K/worklog
GET PUT         A/issue/K/worklog/N  A/issue/K/properties/*  A/issue/K/remotelink/N
GET             A/comment/N/properties
GET PUT         A/comment/N/properties/*
GET             A/issueLink/N  A/worklog/{updated,deleted}
POST            A/worklog/list
GET             A/user/{search,picker}  A/user/assignable/multiProjectSearch  A/user/viewissue/search
GET             A/{customFieldOption,securitylevel}/N  A/project/type  A/projectCategory
GET             A/attachment/thumbnail/N  /secure/thumbnail/N/*
";

const OAUTH_DANCE: &str = "
POST /rest/oauth2/{latest,1.0}/{token,revoke}
POST /plugins/servlet/oauth/{request-token,access-token}
";

#[test]
fn ticketing_is_the_reviewed_table() {
    assert_eq!(rules_of("ticketing"), table(TICKETING));
}

#[test]
fn two_way_sync_is_the_reviewed_table() {
    assert_eq!(rules_of("two-way-sync"), table(TWO_WAY_SYNC));
}

/// What only Cloud has, or has at another path.
#[test]
fn the_presets_for_cloud_are_the_same_on_version_3() {
    for (cloud, base, more, less) in [
        (
            "ticketing-cloud",
            TICKETING,
            &[
                "GET /rest/api/3/project/search",
                "POST /rest/api/3/search/approximate-count",
            ][..],
            &["GET /secure/attachment/{number}/*", "GET /status"][..],
        ),
        (
            "two-way-sync-cloud",
            TWO_WAY_SYNC,
            &[
                "GET /rest/api/3/issue/{issue}/changelog",
                "GET /rest/api/3/user/bulk",
            ],
            &["GET /secure/thumbnail/{number}/*"],
        ),
    ] {
        let mut expected: BTreeSet<_> = table(base)
            .into_iter()
            .filter(|rule| !less.contains(&rule.as_str()) && !rule.contains("/latest"))
            .map(|rule| rule.replace("/rest/api/2", "/rest/api/3"))
            .collect();
        expected.extend(more.iter().map(|&rule| rule.to_owned()));
        assert_eq!(rules_of(cloud), expected, "{cloud}");
    }
}

/// Which calls of known integrations pass: what the lists give as a whole, they give by id.
#[test]
fn the_calls_of_common_libraries_by_id_pass_and_nothing_near_them() {
    let policy = policy(&["ticketing"], &[], &[], "/jira");
    let get = |path: &str| policy.decide(&Method::GET, &format!("/jira/rest/api/2/{path}"));
    for path in [
        "priority/3",
        "status/10001",
        "resolution/1",
        "issueLinkType/10000",
        "issuetype/1",
        "component/10100",
        "version/10200",
        "project/DEMO/version",
        "project/DEMO/component",
        "search/jql?jql=project%3DDEMO",
    ] {
        assert!(get(path).is_allowed(), "{path}");
    }
    for path in [
        "status/Done",
        "securitylevel/1",
        "filter/10000",
        "group/member",
        "issue/DEMO-1/watchers",
        "user/search",
        "version/10200/move",
        "project/DEMO/role",
    ] {
        assert!(!get(path).is_allowed(), "{path}");
    }
}

#[test]
fn oauth_dance_is_the_reviewed_table() {
    assert_eq!(rules_of("oauth-dance"), table(OAUTH_DANCE));
}

#[test]
fn read_only_is_the_reading_half_of_ticketing() {
    let reads = |rule: &String| {
        rule.starts_with("GET ") || rule.ends_with("/search") || rule.ends_with("/search/jql")
    };
    let reading: BTreeSet<_> = table(TICKETING).into_iter().filter(reads).collect();
    assert_eq!(rules_of("read-only"), reading);
}

#[test]
fn nothing_that_deletes_is_in_another_preset_by_accident() {
    for preset in presets() {
        let deletes = rules_of(preset.name)
            .iter()
            .any(|rule| rule.starts_with("DELETE "));
        // To stop watching or voting loses nothing that was written.
        let unwatch = ["two-way-sync", "two-way-sync-cloud"].contains(&preset.name);
        assert_eq!(
            deletes,
            unwatch || ["delete", "webhooks"].contains(&preset.name),
            "{}",
            preset.name
        );
        if unwatch {
            let of_people = |rule: &String| {
                !rule.starts_with("DELETE ")
                    || rule.ends_with("/watchers")
                    || rule.ends_with("/votes")
            };
            assert!(rules_of(preset.name).iter().all(of_people));
        }
    }
}

#[test]
fn every_line_of_the_table_is_allowed_with_and_without_a_trailing_slash() {
    let policy = policy(&["ticketing"], &[], &[], "/jira");
    for line in table(TICKETING) {
        let (method, pattern) = line.split_once(' ').unwrap();
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        for issue in ["ABC-1", "10001"] {
            let path = pattern
                .replace("{issue}", issue)
                .replace("{project}", "ABC")
                .replace("{number}", "7")
                .replace('*', "a%20b.pdf");
            for target in [format!("/jira{path}"), format!("/jira{path}/")] {
                assert!(
                    policy.decide(&method, &target).is_allowed(),
                    "{method} {target}"
                );
                assert!(
                    !policy.decide(&Method::DELETE, &target).is_allowed(),
                    "{target}"
                );
            }
        }
    }
}

/// Every `METHOD /path` of a preset, alternatives written out.
fn rules_of(name: &str) -> BTreeSet<String> {
    let preset = presets().iter().find(|preset| preset.name == name).unwrap();
    let mut rules = BTreeSet::new();
    for rule in preset.rules() {
        let (methods, path) = rule.split_once(' ').unwrap();
        for path in expand(path, '(', '|', ')') {
            rules.extend(methods.split(',').map(|method| format!("{method} {path}")));
        }
    }
    rules
}

/// The same for a reviewed table.
fn table(text: &str) -> BTreeSet<String> {
    let mut rules = BTreeSet::new();
    for line in text.lines() {
        let mut methods = Vec::new();
        let mut after_path = false;
        for word in line.split_whitespace() {
            let Some(path) = word.strip_prefix('A').or(word.strip_prefix('/')) else {
                if std::mem::take(&mut after_path) {
                    methods.clear();
                }
                methods.push(word);
                continue;
            };
            after_path = true;
            let roots: &[&str] = match word.starts_with('A') {
                true => &["/rest/api/2", "/rest/api/latest"],
                false => &["/"],
            };
            for root in roots {
                for path in expand(path, '{', ',', '}') {
                    let typed = path.split('/').map(|segment| match segment {
                        "K" => "{issue}",
                        "P" => "{project}",
                        "N" => "{number}",
                        _ => segment,
                    });
                    let path = typed.collect::<Vec<_>>().join("/");
                    rules.extend(
                        methods
                            .iter()
                            .map(|method| format!("{method} {root}{path}")),
                    );
                }
            }
        }
    }
    rules
}

fn expand(path: &str, open: char, or: char, close: char) -> Vec<String> {
    let mut paths = vec![String::new()];
    for (at, segment) in path.split('/').enumerate() {
        let inner = segment
            .strip_prefix(open)
            .and_then(|segment| segment.strip_suffix(close))
            .filter(|inner| inner.contains(or));
        let options: Vec<_> = inner.map_or(vec![segment], |inner| inner.split(or).collect());
        let slash = if at == 0 { "" } else { "/" };
        let longer = |path: &String| {
            let path = path.clone();
            options
                .iter()
                .map(move |option| format!("{path}{slash}{option}"))
                .collect::<Vec<_>>()
        };
        paths = paths.iter().flat_map(longer).collect();
    }
    paths
}
