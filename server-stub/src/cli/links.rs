//! The flags for application links by OAuth 1.0a, which Jira and Cloud have in common.

use anyhow::Context;

use super::pair;
use crate::jira::{OAuth1Consumer, OAuth1Settings};

/// Consumers, and what each may do.
#[derive(clap::Args)]
pub struct ApplicationLinkArgs {
    /// A consumer of the OAuth 1.0a provider with its public key; may be given several times
    #[arg(long, value_name = "KEY:FILE", value_parser = pair)]
    oauth1_consumer: Vec<(String, String)>,
    /// The user that two-legged requests of a consumer log in; may be given several times
    #[arg(long, value_name = "KEY:USER", value_parser = pair)]
    oauth1_two_legged: Vec<(String, String)>,
    /// A consumer that may impersonate in two-legged requests; may be given several times
    #[arg(long, value_name = "KEY")]
    oauth1_impersonation: Vec<String>,
}

impl ApplicationLinkArgs {
    /// Adds them to what the settings file says.
    ///
    /// # Errors
    /// When a file cannot be read, or a flag names an unknown consumer.
    pub fn add_to(self, provider: &mut OAuth1Settings) -> anyhow::Result<()> {
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
