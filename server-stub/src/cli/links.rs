//! The flags for application links by OAuth 1.0a, shared by Jira and Cloud.

use anyhow::Context;

use super::pair;
use crate::jira::{OAuth1Consumer, OAuth1Settings};

/// Consumers of the OAuth 1.0a provider and their rights.
#[derive(clap::Args)]
pub(super) struct ApplicationLinkArgs {
    /// Consumer of the OAuth 1.0a provider and its public key; may be repeated
    #[arg(long, value_name = "KEY:FILE", value_parser = pair)]
    oauth1_consumer: Vec<(String, String)>,
    /// User for two-legged requests of a consumer; may be repeated
    #[arg(long, value_name = "KEY:USER", value_parser = pair)]
    oauth1_two_legged: Vec<(String, String)>,
    /// Consumer that may impersonate users in two-legged requests; may be repeated
    #[arg(long, value_name = "KEY")]
    oauth1_impersonation: Vec<String>,
}

impl ApplicationLinkArgs {
    /// Adds them to the consumers of the settings file.
    ///
    /// # Errors
    /// When a file cannot be read, or a flag names an unknown consumer.
    pub(super) fn add_to(self, provider: &mut OAuth1Settings) -> anyhow::Result<()> {
        for (key, path) in self.oauth1_consumer {
            let public_key =
                std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
            provider
                .consumers
                .push(OAuth1Consumer::new(&key, &public_key));
        }
        for (key, user) in self.oauth1_two_legged {
            consumer(provider, &key)?.two_legged_user = Some(user);
        }
        for key in self.oauth1_impersonation {
            consumer(provider, &key)?.impersonation = true;
        }
        Ok(())
    }
}

fn consumer<'a>(
    provider: &'a mut OAuth1Settings,
    key: &str,
) -> anyhow::Result<&'a mut OAuth1Consumer> {
    let mut consumers = provider.consumers.iter_mut();
    consumers
        .find(|consumer| consumer.key == key)
        .with_context(|| format!("there is no OAuth 1.0a consumer {key}; add --oauth1-consumer"))
}
