//! Attachments, streamed to and from disk one chunk at a time.

use std::path::Path as FilePath;

use axum::body::Body;
use axum::extract::multipart::{Field, Multipart, MultipartError};
use axum::extract::{FromRequest, Path, Request};
use axum::response::{IntoResponse, Redirect, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;
use tokio_util::io::ReaderStream;

use super::extract::LoggedInUser;
use super::view::{RestContext, RestView};
use crate::jira::model::{Attachment, IssueUnavailable, JiraPermission};
use crate::jira::response::{self, RestError, RestResult, no_content, ok};
use crate::jira::webhooks::WebhookEvent;

pub(super) async fn meta(context: RestContext, LoggedInUser(_): LoggedInUser) -> Response {
    ok(&json!({ "enabled": true, "uploadLimit": context.state.settings.upload_limit }))
}

pub(super) async fn upload(
    context: RestContext,
    Path(name): Path<String>,
    request: Request,
) -> RestResult {
    let issue = {
        let view = context.view();
        let id = view.find_issue(&name)?;
        view.require(
            id,
            JiraPermission::CreateAttachments,
            "You do not have permission to create attachments for this issue.",
        )?;
        id
    };
    let Ok(mut multipart) = Multipart::from_request(request, &()).await else {
        return Ok(response::page(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Unsupported Media Type",
        ));
    };
    let mut attachments = Vec::new();
    while let Some(field) = multipart
        .next_field()
        .await
        .map_err(|error| broken(&error))?
    {
        if field.name() != Some("file") {
            continue;
        }
        let attachment = store_part(&context, issue, field).await?;
        context
            .state
            .model
            .lock()
            .add_attachment(attachment.clone())?;
        attachments.push(attachment);
    }
    let view = context.view();
    for attachment in &attachments {
        view.report_attachment_added(attachment);
    }
    let beans: Value = attachments
        .iter()
        .map(|attachment| view.attachment_bean(attachment))
        .collect();
    Ok(ok(&beans))
}

pub(super) async fn get(context: RestContext, Path(id): Path<String>) -> RestResult {
    let view = context.view();
    let attachment = visible(&view, &id).map_err(|why| missing(&why, &id))?;
    Ok(ok(&view.attachment_bean(attachment)))
}

pub(super) async fn delete(context: RestContext, Path(id): Path<String>) -> RestResult {
    let id = {
        let mut view = context.view();
        let attachment = visible(&view, &id).map_err(|why| missing(&why, &id))?;
        let (id, issue) = (attachment.id, attachment.issue);
        view.require(
            issue,
            JiraPermission::DeleteAllAttachments,
            &format!("You do not have permission to delete attachment with id: {id}"),
        )?;
        if let Some(attachment) = view.model.attachment(id) {
            view.report_attachment(WebhookEvent::AttachmentDeleted, attachment, false);
        }
        view.model.remove_attachment(id);
        id
    };
    let _ = tokio::fs::remove_file(context.state.attachment_file(id)).await;
    Ok(no_content())
}

/// `/secure/attachment/{id}/{name}`: for browsers, so its errors are HTML pages.
pub(super) async fn download(
    context: RestContext,
    Path((id, _)): Path<(String, String)>,
    request: Request,
) -> Response {
    let attachment = {
        let view = context.view();
        visible(&view, &id).cloned()
    };
    let attachment = match attachment {
        Ok(attachment) => attachment,
        Err(IssueUnavailable::Forbidden) if context.caller.user.is_none() => {
            let login = format!(
                "{}/login.jsp?permissionViolation=true&os_destination=%2Fsecure%2Fattachment%2F{id}",
                context.state.settings.context_path
            );
            // Jira answers 302, not 303.
            let mut response = Redirect::to(&login).into_response();
            *response.status_mut() = StatusCode::FOUND;
            return response;
        }
        Err(IssueUnavailable::Forbidden) => {
            return response::page(
                StatusCode::FORBIDDEN,
                "Access to this attachment is denied.",
            );
        }
        Err(IssueUnavailable::Missing) => {
            return response::page(StatusCode::NOT_FOUND, "The attachment does not exist.");
        }
    };
    drop(request);
    let Ok(file) = File::open(context.state.attachment_file(attachment.id)).await else {
        return response::page(StatusCode::NOT_FOUND, "The attachment's file is missing.");
    };
    let mut response = Response::new(Body::from_stream(ReaderStream::with_capacity(file, CHUNK)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(attachment.size));
    if let Ok(kind) = HeaderValue::try_from(&attachment.mime) {
        headers.insert(header::CONTENT_TYPE, kind);
    }
    let name = attachment
        .name
        .replace(|c: char| c.is_control() || "\"\\".contains(c), "_");
    if let Ok(disposition) =
        HeaderValue::from_bytes(format!("attachment; filename=\"{name}\"").as_bytes())
    {
        headers.insert(header::CONTENT_DISPOSITION, disposition);
    }
    response
}

/// Writes one part to disk; removes the file if it does not become an attachment.
async fn store_part(
    context: &RestContext,
    issue: u64,
    mut field: Field<'_>,
) -> Result<Attachment, RestError> {
    let name = field.file_name().unwrap_or("file").to_owned();
    let mime = field
        .content_type()
        .unwrap_or("application/octet-stream")
        .to_owned();
    let shared = &context.state;
    let id = shared.model.lock().fresh_id();
    let path = shared.attachment_file(id);
    let size = match write(&path, &mut field, shared.settings.upload_limit, &name).await {
        Ok(size) => size,
        Err(failure) => {
            let _ = tokio::fs::remove_file(&path).await;
            return Err(failure);
        }
    };
    Ok(Attachment {
        id,
        issue,
        name,
        mime,
        size,
        author: context.caller.user.clone(),
        created: shared.now(),
    })
}

async fn write(
    path: &FilePath,
    field: &mut Field<'_>,
    limit: u64,
    name: &str,
) -> Result<u64, RestError> {
    let disk = |error: std::io::Error| {
        RestError::message(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("Unable to save attachment {name}: {error}"),
        )
    };
    let mut file = File::create(path).await.map_err(disk)?;
    let mut size = 0;
    while let Some(chunk) = field.chunk().await.map_err(|error| broken(&error))? {
        size += chunk.len() as u64;
        if size > limit {
            return Err(RestError::message(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("The file {name} has exceeded its size limit of {limit} bytes."),
            ));
        }
        file.write_all(&chunk).await.map_err(disk)?;
    }
    file.flush().await.map_err(disk)?;
    Ok(size)
}

fn visible<'a>(view: &'a RestView<'_>, id: &str) -> Result<&'a Attachment, IssueUnavailable> {
    let attachment = id
        .parse()
        .ok()
        .and_then(|id| view.model.attachment(id))
        .ok_or(IssueUnavailable::Missing)?;
    view.model
        .visible_issue(view.viewer, &attachment.issue.to_string())?;
    Ok(attachment)
}

fn missing(why: &IssueUnavailable, id: &str) -> RestError {
    match why {
        IssueUnavailable::Missing => {
            RestError::missing(format!("The attachment with id '{id}' does not exist"))
        }
        IssueUnavailable::Forbidden => RestError::forbidden(format!(
            "You do not have permission to view attachment with id: {id}"
        )),
    }
}

fn broken(error: &MultipartError) -> RestError {
    RestError::bad(format!("The multipart request cannot be read: {error}"))
}

/// Bytes per read from disk.
const CHUNK: usize = 64 << 10;
