//! API tokens with and without scopes, and where each is accepted.

use serde_json::json;

use crate::client::{ACCOUNT, EMAIL, Reply, ex, get, http, send, start};

const TOKEN: &str = "acme-bot-api-token";
const SCOPED: &str = "acme-bot-scoped-token";

#[tokio::test]
async fn the_site_takes_a_token_without_scopes_and_names_the_account() {
    let cloud = start().await;
    for version in ["2", "3"] {
        let url = format!("{}/rest/api/{version}/myself", cloud.sites[0].url);
        let reply = send(get(&cloud, &url).basic_auth(EMAIL, Some(TOKEN))).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        assert_eq!(reply.header("x-aaccountid"), Some(ACCOUNT));
        assert_eq!(reply.header("x-ausername"), None);
        assert_eq!(reply.header("set-cookie"), None);
        let me = reply.json();
        assert_eq!(me["accountId"], ACCOUNT);
        assert_eq!((me.get("name"), me.get("key")), (None, None));
    }
}

#[tokio::test]
async fn a_scoped_token_is_good_behind_the_api_gateway_alone_and_the_other_on_the_site_alone() {
    let cloud = start().await;
    let site = format!("{}/rest/api/3/myself", cloud.sites[0].url);
    let behind = ex(&cloud, "/rest/api/3/myself");
    for (url, token, status) in [
        (&site, TOKEN, 200),
        (&site, SCOPED, 401),
        (&behind, SCOPED, 200),
        (&behind, TOKEN, 401),
    ] {
        let reply = send(get(&cloud, url).basic_auth(EMAIL, Some(token))).await;
        assert_eq!(reply.status, status, "{token} {url}: {}", reply.body);
    }
}

#[tokio::test]
async fn a_wrong_token_is_401_or_passed_over_with_a_word_in_the_headers() {
    let cloud = start().await;
    let ask = |path: &str, email: &'static str| {
        let url = format!("{}{path}", cloud.sites[0].url);
        send(get(&cloud, &url).basic_auth(email, Some("wrong")))
    };
    let login_reason = |reply: &Reply| reply.header("x-seraph-loginreason").map(str::to_owned);
    let failed = Some("AUTHENTICATED_FAILED".to_owned());
    let myself = ask("/rest/api/3/myself", EMAIL).await;
    assert_eq!(
        (myself.status.as_u16(), login_reason(&myself)),
        (401, failed.clone())
    );
    let search = ask("/rest/api/3/search/jql?jql=project=DEMO", EMAIL).await;
    assert_eq!(
        (search.status.as_u16(), login_reason(&search)),
        (200, failed)
    );
    assert_eq!(search.json(), json!({ "issues": [], "isLast": true }));
    assert_eq!(search.header("x-aaccountid"), None);
    cloud.revoke_api_token(TOKEN);
    let url = format!("{}/rest/api/3/myself", cloud.sites[0].url);
    let reply = send(get(&cloud, &url).basic_auth(EMAIL, Some(TOKEN))).await;
    assert_eq!(reply.status, 401);
}

#[tokio::test]
async fn the_site_tells_its_cloud_id_and_itself_to_anyone() {
    let cloud = start().await;
    for site in &cloud.sites {
        let reply = send(get(&cloud, &format!("{}/_edge/tenant_info", site.url))).await;
        assert_eq!(reply.json(), json!({ "cloudId": site.cloud_id }));
        let reply = send(get(&cloud, &format!("{}/rest/api/3/serverInfo", site.url))).await;
        assert_eq!(reply.json()["deploymentType"], "Cloud");
        assert_eq!(reply.json()["baseUrl"], site.url);
    }
}

#[tokio::test]
async fn both_ways_lead_to_the_same_issues_and_the_raw_target_arrives() {
    let cloud = start().await;
    let issue = json!({ "fields": {
        "project": { "key": "DEMO" }, "issuetype": { "name": "Task" }, "summary": "one",
    }});
    let make = http(&cloud)
        .post(ex(&cloud, "/rest/api/3/issue"))
        .basic_auth(EMAIL, Some(SCOPED))
        .json(&issue);
    let made = send(make).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let own = format!("{}/rest/api/2/issue/", cloud.sites[0].url);
    assert!(made.json()["self"].as_str().unwrap().starts_with(&own));
    let key = made.json()["key"].as_str().unwrap().to_owned();
    let url = format!("{}/rest/api/3/issue/{key}", cloud.sites[0].url);
    let reply = send(get(&cloud, &url).basic_auth(EMAIL, Some(TOKEN))).await;
    assert_eq!(reply.json()["fields"]["summary"], "one");

    cloud.clear_requests();
    let raw = "/rest/api/3/search?jql=a%2Bb&x=%7e";
    send(get(&cloud, &ex(&cloud, raw)).basic_auth(EMAIL, Some(SCOPED))).await;
    assert_eq!(cloud.requests(0).last().unwrap().target_text(), raw);
    let seen = cloud.api_targets();
    assert_eq!(seen, [format!("/ex/jira/{}{raw}", cloud.sites[0].cloud_id)]);
}

#[tokio::test]
async fn a_site_that_is_not_there_is_404_behind_the_gateway() {
    let cloud = start().await;
    let url = format!("{}/ex/jira/unknown/rest/api/3/myself", cloud.api_url);
    let reply = send(get(&cloud, &url).basic_auth(EMAIL, Some(SCOPED))).await;
    assert_eq!(reply.status, 404);
}

#[tokio::test]
async fn a_site_has_no_status_page() {
    let cloud = start().await;
    let reply = send(get(&cloud, &format!("{}/status", cloud.sites[0].url))).await;
    assert_eq!(reply.status, 404);
}

/// CHANGE-2046: `search` is gone; `search/jql` has pages linked by tokens, ids unless fields are requested, no total.
#[tokio::test]
async fn search_moved_to_search_jql_with_pages_chained_by_tokens() {
    let cloud = start().await;
    let ask = |path: &str| {
        let url = format!("{}{path}", cloud.sites[0].url);
        send(get(&cloud, &url).basic_auth(EMAIL, Some(TOKEN)))
    };
    for path in ["/rest/api/2/search?jql=project=DEMO", "/rest/api/3/search"] {
        let gone = ask(path).await;
        assert_eq!(gone.status, 410, "{path}");
        let said = gone.json()["errorMessages"][0].as_str().unwrap().to_owned();
        assert!(
            said.contains("migrate to the /rest/api/3/search/jql API"),
            "{said}"
        );
    }
    let url = format!("{}/rest/api/3/issue", cloud.sites[0].url);
    for number in 0..3 {
        let issue = json!({ "fields": {
            "project": { "key": "DEMO" }, "summary": format!("paged {number}"), "issuetype": { "name": "Task" },
        } });
        let made = http(&cloud)
            .post(&url)
            .basic_auth(EMAIL, Some(TOKEN))
            .json(&issue);
        assert_eq!(send(made).await.status, 201);
    }
    let (mut token, mut found, mut pages) = (String::new(), Vec::new(), 0);
    loop {
        let page = ask(&format!(
            "/rest/api/3/search/jql?jql=summary~paged&maxResults=2{token}"
        ))
        .await;
        assert_eq!(page.status, 200);
        let page = page.json();
        assert_eq!(page.get("total"), None);
        for issue in page["issues"].as_array().unwrap() {
            assert_eq!(issue.as_object().unwrap().len(), 1, "{issue}");
            found.push(issue["id"].clone());
        }
        pages += 1;
        match page["nextPageToken"].as_str() {
            Some(next) => token = format!("&nextPageToken={next}"),
            None => {
                assert_eq!(page["isLast"], true);
                break;
            }
        }
    }
    assert_eq!((found.len(), pages), (3, 2), "{found:?}");
    let full = ask("/rest/api/3/search/jql?jql=summary~paged&fields=summary").await;
    assert!(full.json()["issues"][0]["fields"]["summary"].is_string());
    // Of another query, and without any restriction.
    for path in [
        format!("/rest/api/3/search/jql?jql=project=DEMO{token}"),
        "/rest/api/3/search/jql".to_owned(),
        "/rest/api/3/search/jql?jql=order+by+key".to_owned(),
    ] {
        assert_eq!(ask(&path).await.status, 400, "{path}");
    }
}
