#!/usr/bin/env node
// What the npm library `jira-client` shows of an answer that the agent gives itself. Usage: BASE_URL PATH
'use strict';

const JiraApi = require('jira-client');

async function main() {
  const [baseUrl, path] = process.argv.slice(2);
  const url = new URL(baseUrl);
  const jira = new JiraApi({
    protocol: 'http',
    host: url.hostname,
    port: url.port,
    base: url.pathname.replace(/^\/|\/$/g, ''),
    bearer: 'vendors-secret',
  });
  try {
    await jira.doRequest(jira.makeRequestHeader(`${baseUrl}/${path}`));
  } catch (error) {
    console.log(JSON.stringify({ 'jira-client': error.message || String(error) }));
  }
}

main();
