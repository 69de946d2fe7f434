//! The resources, one file per group. Requests arrive authenticated. No resource awaits while it holds
//! the lock of the model.

mod attachment;
mod bean;
mod catalogue;
mod changelog;
mod comment;
mod create;
mod edit;
mod extract;
mod issue;
mod issue_bean;
mod link;
mod meta;
mod pat;
mod permissions;
mod project;
mod search;
mod search_jql;
mod server_info;
mod session;
mod transition;
mod user;
mod view;
mod webhook_admin;
mod webhook_app;
mod webhook_bean;
mod webhook_events;
mod webhook_global;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{delete, get, post, put};
use http::StatusCode;

use super::model::catalogue::{IssueLinkType, IssueStatus, IssueType, Priority, Resolution};
use super::state::JiraState;
use super::{middleware, oauth1, oauth2, response};

type RestState = State<Arc<JiraState>>;

/// The router of all resources, behind [`middleware`].
pub(super) fn router(shared: Arc<JiraState>) -> Router {
    let (api, webhooks) = match (shared.cloud, shared.settings.major()) {
        (true, _) => (api().merge(webhook_app::routes()), Router::new()),
        (false, ..=LAST_WITH_OLD_WEBHOOKS) => (
            api(),
            Router::new().nest(webhook_admin::PREFIX, webhook_admin::routes()),
        ),
        (false, _) => (
            api(),
            Router::new().nest(webhook_global::PREFIX, webhook_global::routes()),
        ),
    };
    let inner = Router::new()
        .nest("/rest/api/2", api)
        .merge(webhooks)
        .nest("/rest/pat/latest", pat::routes())
        .nest("/rest/pat/1.0", pat::routes())
        .nest(oauth1::PREFIX, oauth1::routes())
        .nest("/rest/oauth2/latest", oauth2::routes())
        .nest("/rest/oauth2/1.0", oauth2::routes())
        .nest("/rest/auth/1", session::routes())
        .route("/secure/attachment/{id}/{name}", get(attachment::download))
        .route("/", get(home))
        .route("/login.jsp", get(login_page))
        .route("/secure/Dashboard.jspa", get(dashboard))
        .fallback(missing)
        .method_not_allowed_fallback(not_allowed)
        .layer(DefaultBodyLimit::disable())
        .with_state(shared.clone());
    Router::new()
        .fallback_service(inner)
        .layer(from_fn_with_state(shared, middleware::handle))
}

fn api() -> Router<Arc<JiraState>> {
    Router::new()
        .route("/serverInfo", get(server_info::server_info))
        .route("/myself", get(user::myself))
        .route("/mypermissions", get(permissions::mine))
        .route("/user", get(user::user))
        .route("/user/assignable/search", get(user::assignable))
        .route("/field", get(catalogue::fields))
        .route("/priority", get(catalogue::list::<Priority>))
        .route("/priority/{id}", get(catalogue::one::<Priority>))
        .route("/status", get(catalogue::list::<IssueStatus>))
        .route("/status/{id}", get(catalogue::one::<IssueStatus>))
        .route("/resolution", get(catalogue::list::<Resolution>))
        .route("/resolution/{id}", get(catalogue::one::<Resolution>))
        .route("/issuetype", get(catalogue::list::<IssueType>))
        .route("/issuetype/{id}", get(catalogue::one::<IssueType>))
        .route("/issueLinkType", get(catalogue::link_types))
        .route("/issueLinkType/{id}", get(catalogue::one::<IssueLinkType>))
        .route("/project", get(project::all))
        .route("/project/{project}", get(project::one))
        .route("/project/{project}/components", get(project::components))
        .route("/project/{project}/versions", get(project::versions))
        .route("/project/{project}/statuses", get(project::statuses))
        .route("/search", get(search::get).post(search::post))
        .route("/search/jql", get(search_jql::get).post(search_jql::post))
        .route("/issue", post(create::one))
        .route("/issue/bulk", post(create::many))
        .route("/issue/createmeta", get(meta::create_old))
        .route(
            "/issue/createmeta/{project}/issuetypes",
            get(meta::create_types),
        )
        .route(
            "/issue/createmeta/{project}/issuetypes/{id}",
            get(meta::create_fields),
        )
        .route(
            "/issue/{issue}",
            get(issue::get).put(issue::put).delete(issue::delete),
        )
        .route("/issue/{issue}/editmeta", get(meta::edit))
        .route("/issue/{issue}/assignee", put(issue::assign))
        .route(
            "/issue/{issue}/transitions",
            get(transition::list).post(transition::perform),
        )
        .route(
            "/issue/{issue}/comment",
            get(comment::list).post(comment::add),
        )
        .route(
            "/issue/{issue}/comment/{id}",
            get(comment::get).put(comment::put).delete(comment::delete),
        )
        .route(
            "/issue/{issue}/remotelink",
            get(link::remote_list).post(link::remote_add),
        )
        .route("/issue/{issue}/attachments", post(attachment::upload))
        .route("/issueLink", post(link::add))
        .route("/attachment/meta", get(attachment::meta))
        .route("/attachment/{id}", get(attachment::get))
        .route("/attachment/{id}", delete(attachment::delete))
}

async fn home(State(shared): RestState) -> Redirect {
    Redirect::to(&format!(
        "{}/secure/Dashboard.jspa",
        shared.settings.context_path
    ))
}

async fn login_page() -> Response {
    response::page(StatusCode::OK, "Log in")
}

async fn dashboard() -> Response {
    response::page(StatusCode::OK, "System Dashboard")
}

async fn missing(State(shared): RestState, request: Request) -> Response {
    let path = request.uri().path();
    if path.starts_with("/rest/") {
        response::framework(
            StatusCode::NOT_FOUND,
            &format!("null for uri: {}{path}", shared.base_url),
        )
    } else {
        response::page(StatusCode::NOT_FOUND, "Oops, you&#39;ve found a dead link.")
    }
}

async fn not_allowed() -> Response {
    response::page(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed").into_response()
}

/// The last major version whose webhooks are managed at `/rest/webhooks/1.0`.
const LAST_WITH_OLD_WEBHOOKS: u32 = 9;
