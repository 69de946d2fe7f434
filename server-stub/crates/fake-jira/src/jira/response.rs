//! Responses in Jira's shapes: JSON, JSON error collections, and the HTML pages of Seraph and Tomcat.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use super::model::{CollectionFull, IssueUnavailable};

/// The result of a REST resource.
pub(super) type RestResult = Result<Response, RestError>;

/// An error collection, `{"errorMessages":[…],"errors":{…}}`, with a status.
#[derive(Debug)]
pub(super) struct RestError {
    status: StatusCode,
    messages: Vec<String>,
    errors: Map<String, Value>,
}

impl RestError {
    /// One message for the whole request.
    pub(super) fn message(status: StatusCode, text: impl Into<String>) -> Self {
        Self {
            status,
            messages: vec![text.into()],
            errors: Map::new(),
        }
    }

    /// 400 with one message.
    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self::message(StatusCode::BAD_REQUEST, text)
    }

    /// 400 with a message for one field.
    pub(super) fn field(field: &str, text: impl Into<String>) -> Self {
        Self::fields([(field.to_owned(), text.into())])
    }

    /// 400 with a message for each of these fields.
    pub(super) fn fields(errors: impl IntoIterator<Item = (String, String)>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            messages: Vec::new(),
            errors: errors
                .into_iter()
                .map(|(field, text)| (field, text.into()))
                .collect(),
        }
    }

    /// 404 with one message.
    pub(super) fn missing(text: impl Into<String>) -> Self {
        Self::message(StatusCode::NOT_FOUND, text)
    }

    /// 403 with one message.
    pub(super) fn forbidden(text: impl Into<String>) -> Self {
        Self::message(StatusCode::FORBIDDEN, text)
    }

    /// The issue does not exist, or the viewer may not see it; 401 for anonymous requests.
    pub(super) fn issue(why: IssueUnavailable, viewer: Option<&str>) -> Self {
        match (why, viewer) {
            (IssueUnavailable::Missing, _) => Self::missing("Issue Does Not Exist"),
            (IssueUnavailable::Forbidden, Some(_)) => Self::forbidden(NO_PERMISSION),
            (IssueUnavailable::Forbidden, None) => Self {
                status: StatusCode::UNAUTHORIZED,
                messages: vec![NO_PERMISSION.into(), "Login Required".into()],
                errors: Map::new(),
            },
        }
    }
}

impl RestError {
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// The error collection as a JSON document.
    pub(super) fn body(&self) -> Value {
        json!({ "errorMessages": self.messages, "errors": self.errors })
    }
}

impl IntoResponse for RestError {
    fn into_response(self) -> Response {
        json(self.status, &self.body())
    }
}

impl From<CollectionFull> for RestError {
    fn from(full: CollectionFull) -> Self {
        Self::message(StatusCode::INSUFFICIENT_STORAGE, full.to_string())
    }
}

/// A JSON response with this status.
pub(super) fn json(status: StatusCode, value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json;charset=UTF-8"),
    );
    response
}

/// A JSON response with status 200.
pub(super) fn ok(value: &Value) -> Response {
    json(StatusCode::OK, value)
}

/// A response without body, 204.
pub(super) fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// An error of the REST framework itself, `{"message":…,"status-code":…}`.
pub(super) fn framework(status: StatusCode, message: &str) -> Response {
    json(
        status,
        &json!({ "message": message, "status-code": status.as_u16() }),
    )
}

/// 401 for an anonymous request to a resource that requires a login.
pub(super) fn login_required() -> Response {
    framework(
        StatusCode::UNAUTHORIZED,
        "Client must be authenticated to access this resource.",
    )
}

/// The HTML page of Tomcat or Seraph for a status.
pub(super) fn page(status: StatusCode, text: &str) -> Response {
    let title = format!(
        "{} ({})",
        status.canonical_reason().unwrap_or("Error"),
        status.as_u16()
    );
    let body = format!(
        "<html>\n<head>\n    <title>{title}</title>\n</head>\n<body>\n<h1>{title}</h1>\n\
         <p>Encountered a <code>&quot;{title}&quot;</code> error while loading this page.</p>\n\
         <p>{text}</p>\n</body>\n</html>\n"
    );
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html;charset=UTF-8"),
    );
    response
}

/// A plain-text response with this status.
pub(super) fn text(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain;charset=UTF-8"),
    );
    response
}

/// A time in Jira's format, `2025-03-01T12:00:00.000+0000`.
pub(super) fn timestamp(at: OffsetDateTime) -> String {
    at.to_offset(time::UtcOffset::UTC)
        .format(TIMESTAMP)
        .unwrap_or_default()
}

/// A time as in the header `Date`, `Sat, 01 Mar 2025 12:00:00 GMT` (RFC 9110 §5.6.7).
pub(super) fn http_date(at: OffsetDateTime) -> String {
    at.to_offset(time::UtcOffset::UTC)
        .format(HTTP_DATE)
        .unwrap_or_default()
}

const HTTP_DATE: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);
const TIMESTAMP: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]+0000");
const NO_PERMISSION: &str = "You do not have the permission to see the specified issue.";
