//! Explains to an administrator why Jira did not accept the credential.

use super::CredentialInjector;
use crate::{
    auth::{
        CredentialUnavailable,
        identity::{BasicAuthDisabled, ProvenUser, RejectionReason},
    },
    upstream::Intermediary,
};
use http::StatusCode;

impl CredentialInjector {
    /// Cause and remedy, and whether a later retry does no harm.
    pub(super) fn describe_rejection(
        &self,
        rejection: &RejectionReason,
        status: StatusCode,
    ) -> (CredentialUnavailable, bool) {
        let who = match self.scheme.expected_user() {
            Some(user) => format!("the password of {user}"),
            None => "the agent's credential".to_owned(),
        };
        let rejection = match rejection {
            // Some versions name `anonymous` in this answer.
            RejectionReason::Anonymous
                if status == StatusCode::FORBIDDEN && self.scheme.mode() == "basic" =>
            {
                &RejectionReason::BasicAuthDisabled(BasicAuthDisabled::Likely)
            }
            other @ (RejectionReason::Refused
            | RejectionReason::Captcha
            | RejectionReason::BasicAuthDisabled(_)
            | RejectionReason::Anonymous
            | RejectionReason::OtherUser(_)
            | RejectionReason::Intermediary(_)
            | RejectionReason::LoginPage) => other,
        };
        let status = status.as_u16();
        let harmless = !self.scheme.locks_out();
        let (cause, remedy, retry) = match rejection {
            RejectionReason::Refused => (
                format!("Jira refused {who} ({status})"),
                self.scheme.remedy(),
                harmless,
            ),
            RejectionReason::Captcha => (
                format!("Jira demands a CAPTCHA ({status}) after too many failed logins and refuses even the right password"),
                self.scheme.remedy(),
                harmless,
            ),
            RejectionReason::BasicAuthDisabled(BasicAuthDisabled::Stated) => (
                "Basic authentication is switched off on this Jira".to_owned(),
                "use mode = \"pat\" with a personal access token, or let a Jira administrator allow Basic authentication".to_owned(),
                true,
            ),
            RejectionReason::BasicAuthDisabled(BasicAuthDisabled::Likely) => (
                "Jira refused the request (403) without naming a user, as it does where Basic authentication is switched off".to_owned(),
                "use mode = \"pat\" with a personal access token, or let a Jira administrator allow Basic authentication".to_owned(),
                true,
            ),
            RejectionReason::Anonymous => (
                "Jira treated the request as anonymous: it ignored the agent's credential".to_owned(),
                self.scheme.remedy(),
                true,
            ),
            RejectionReason::OtherUser(user) => {
                let proven = self.findings.lock().user.as_ref().map(ProvenUser::display_name);
                let meant = self.scheme.expected_user().map(str::to_owned).or(proven);
                (
                    format!(
                        "Jira treated the request as user {user}, not {}",
                        meant.as_deref().unwrap_or("the configured one")
                    ),
                    match self.scheme.expected_user() {
                        Some(_) => "check whether single sign-on in front of Jira replaces the login; set username to the user that is meant",
                        None => "check whether single sign-on in front of Jira replaces the login; a renamed user is accepted once the agent's own probe sees the new name",
                    }
                    .to_owned(),
                    true,
                )
            }
            RejectionReason::Intermediary(intermediary) => {
                let diagnosis = intermediary.diagnosis();
                // Kerberos and NTLM ignore what we send; another realm may count it.
                let is_counted = matches!(intermediary, Intermediary::LoginDemanded { challenges } if challenges.contains("Basic"));
                (
                    diagnosis.cause,
                    diagnosis.remedy.to_owned(),
                    harmless || !is_counted,
                )
            }
            RejectionReason::LoginPage => (
                "Jira redirects to its login page instead of answering: it does not accept the agent's credential for this path".to_owned(),
                self.scheme.remedy(),
                true,
            ),
        };
        let why = CredentialUnavailable {
            cause: self.profile.reword(&cause).into_owned(),
            remedy: self.profile.reword(&remedy).into_owned(),
        };
        (why, retry)
    }
}
