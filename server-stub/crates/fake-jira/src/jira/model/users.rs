//! The user directory: names, passwords, groups, and personal access tokens.

use time::{Duration, OffsetDateTime};

use crate::jira::settings;
use crate::token_store::{random_token, secrets_match};

/// The users and their personal access tokens.
pub(in crate::jira) struct UserDirectory {
    users: Vec<DirectoryUser>,
    tokens: Vec<PersonalAccessToken>,
    next_token: u64,
}

/// A user who can log in.
pub(in crate::jira) struct DirectoryUser {
    pub name: String,
    pub email: String,
    pub display_name: String,
    pub groups: Vec<String>,
    password: String,
}

/// A personal access token.
pub(in crate::jira) struct PersonalAccessToken {
    pub id: u64,
    pub owner: String,
    pub name: String,
    pub created: OffsetDateTime,
    pub expires: Option<OffsetDateTime>,
    secret: String,
}

impl UserDirectory {
    pub(crate) fn new(
        users: &[settings::UserSettings],
        tokens: &[settings::TokenSettings],
    ) -> Self {
        let mut users = Self {
            users: users.iter().map(DirectoryUser::new).collect(),
            tokens: Vec::new(),
            next_token: 1,
        };
        for token in tokens {
            let lifetime = token.expires_in.map(Duration::seconds);
            users.add_token(&token.user, &token.name, lifetime, token.token.clone());
            // Tokens from the settings appear older than this process.
            if let Some(token) = users.tokens.last_mut() {
                token.created -= INITIAL_TOKEN_AGE;
            }
        }
        users
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &DirectoryUser> {
        self.users.iter()
    }

    /// The user with this login name, ignoring case.
    pub(crate) fn find(&self, name: &str) -> Option<&DirectoryUser> {
        self.users
            .iter()
            .find(|user| user.name.eq_ignore_ascii_case(name))
    }

    /// The user with this login name, or email address in Cloud.
    pub(crate) fn find_by_login_name(&self, text: &str, cloud: bool) -> Option<&DirectoryUser> {
        match cloud {
            true => self
                .users
                .iter()
                .find(|user| user.email.eq_ignore_ascii_case(text)),
            false => self.find(text),
        }
    }

    pub(crate) fn set_password(&mut self, name: &str, password: &str) {
        if let Some(user) = self.users.iter_mut().find(|user| user.name == name) {
            password.clone_into(&mut user.password);
        }
    }

    /// The owner of a valid token.
    pub(crate) fn owner_of(&self, secret: &str, now: OffsetDateTime) -> Option<&DirectoryUser> {
        let token = self
            .tokens
            .iter()
            .find(|token| secrets_match(&token.secret, secret))?;
        if token.expires.is_some_and(|end| end <= now) {
            return None;
        }
        self.find(&token.owner)
    }

    pub(crate) fn tokens_of(&self, owner: &str) -> impl Iterator<Item = &PersonalAccessToken> {
        self.tokens.iter().filter(move |token| token.owner == owner)
    }

    /// Creates a token and returns its secret; `None` at the owner's limit.
    pub(crate) fn create_token(
        &mut self,
        owner: &str,
        name: &str,
        lifetime: Option<Duration>,
    ) -> Option<(&PersonalAccessToken, String)> {
        if self.tokens_of(owner).count() >= MAX_TOKENS_PER_PERSON {
            return None;
        }
        let secret = random_token(SECRET_LENGTH);
        self.add_token(owner, name, lifetime, secret.clone());
        self.tokens.last().map(|token| (token, secret))
    }

    /// Revokes a token; `false` if the owner has no such token.
    pub(crate) fn revoke_token(&mut self, owner: &str, id: u64) -> bool {
        let before = self.tokens.len();
        self.tokens
            .retain(|token| !(token.owner == owner && token.id == id));
        self.tokens.len() < before
    }

    /// Expires the token with this secret.
    pub(crate) fn expire_token(&mut self, secret: &str) {
        let now = OffsetDateTime::now_utc();
        for token in self
            .tokens
            .iter_mut()
            .filter(|token| secrets_match(&token.secret, secret))
        {
            token.expires = Some(now);
        }
    }

    fn add_token(&mut self, owner: &str, name: &str, lifetime: Option<Duration>, secret: String) {
        let created = OffsetDateTime::now_utc();
        self.tokens.push(PersonalAccessToken {
            id: self.next_token,
            owner: owner.to_owned(),
            name: name.to_owned(),
            created,
            expires: lifetime.map(|lifetime| created.saturating_add(lifetime)),
            secret,
        });
        self.next_token += 1;
    }
}

impl DirectoryUser {
    fn new(user: &settings::UserSettings) -> Self {
        Self {
            name: user.name.clone(),
            email: if user.email.is_empty() {
                format!("{}@corp.example", user.name)
            } else {
                user.email.clone()
            },
            display_name: if user.display_name.is_empty() {
                user.name.clone()
            } else {
                user.display_name.clone()
            },
            groups: user.groups.clone(),
            password: user.password.clone(),
        }
    }

    pub(crate) fn has_password(&self, password: &str) -> bool {
        secrets_match(&self.password, password)
    }

    pub(crate) fn is_administrator(&self) -> bool {
        self.groups.iter().any(|group| group == ADMINISTRATORS)
    }
}

/// Jira's own limit is 10 by default.
const MAX_TOKENS_PER_PERSON: usize = 100;
/// As long as a real one.
const SECRET_LENGTH: usize = 44;
const ADMINISTRATORS: &str = "jira-administrators";

/// Age of the tokens from the settings at the start.
const INITIAL_TOKEN_AGE: Duration = Duration::days(300);
