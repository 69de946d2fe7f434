//! An agent behind the stub whose program may be replaced: both processes of a hand-over listen at once there.

use crate::{
    agent::AgentProcess, recording_origin::RecordingOrigin, setup::RunningAgent, sshd::free_port,
    stub::StubGateway,
};
use anyhow::Result;
use std::path::PathBuf;

/// The stub, a recording Jira, and an agent with two connections between them; every layer is proven.
pub struct ReplaceableAgent {
    /// The stub's gateway.
    pub gateway: StubGateway,
    /// Upstream of the forward.
    pub jira: RecordingOrigin,
    /// The agent, in a namespace that ends with it.
    pub agent: RunningAgent,
    /// The file that it runs from.
    pub program: PathBuf,
}

impl ReplaceableAgent {
    /// Starts all of it; `prepare` changes the agent before it runs from the file.
    pub async fn start(prepare: impl FnOnce(&mut AgentProcess)) -> Result<Self> {
        let gateway = StubGateway::start(1).await?;
        let jira = RecordingOrigin::start().await?;
        let bind = format!("127.0.0.1:{}", free_port()?);
        let setup = gateway.agent(0)?.tunnel("connections", 2);
        let mut agent = setup.forward("jira", &bind, &jira.url()).start()?;
        let program = agent.use_replaceable_program()?;
        prepare(&mut agent);
        agent.restart()?;
        agent.until_proven().await?;
        Ok(Self {
            gateway,
            jira,
            agent,
            program,
        })
    }
}
