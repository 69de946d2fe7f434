#!/usr/bin/env node
// One of everything with the npm library `jira-client`.
// Usage: jira_client_everything.js BASE_URL (basic USER PASSWORD | pat TOKEN
//          | oauth1 CONSUMER KEY_FILE TOKEN SECRET | none) [EXPECTED_USER]
// With JIRA_URL, Jira's own URL is what is called and signed, and its requests are led through BASE_URL.
'use strict';

const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const fs = require('node:fs');
const http = require('node:http');
const os = require('node:os');
const path = require('node:path');
const JiraApi = require('jira-client');
const request = require('postman-request');

const PROJECT = process.env.JIRA_PROJECT || 'DEMO';
const SIZE = Number(process.env.ATTACHMENT_SIZE || 1 << 20);

function asked() {
  const [baseUrl, login, ...rest] = process.argv.slice(2);
  const wanted = { basic: 2, pat: 1, oauth1: 4, none: 0 }[login];
  if (wanted === undefined || rest.length < wanted) {
    console.error('usage: BASE_URL (basic … | pat … | oauth1 … | none) [EXPECTED_USER]');
    process.exit(64);
  }
  const credential = rest.slice(0, wanted);
  const options = {
    none: () => ({}),
    basic: ([username, password]) => ({ username, password }),
    pat: ([bearer]) => ({ bearer }),
    oauth1: ([consumer, keyFile, token, secret]) => ({
      oauth: {
        consumer_key: consumer,
        consumer_secret: fs.readFileSync(keyFile, 'ascii'),
        access_token: token,
        access_token_secret: secret,
        signature_method: 'RSA-SHA1',
      },
    }),
  }[login](credential);
  const url = new URL(process.env.JIRA_URL || baseUrl);
  if (process.env.JIRA_URL) options.request = through(new URL(baseUrl));
  return { url, options, expected: rest[wanted] };
}

// A request function that signs for the URL it is given and sends to the tunnel.
function through(tunnel) {
  const hop = {
    Agent: http.Agent,
    request: (options, answered) => http.request(
      { ...options, protocol: 'http:', host: tunnel.hostname, hostname: tunnel.hostname, port: tunnel.port, agent: false },
      answered,
    ),
  };
  return (options) => new Promise((resolve, reject) => {
    request({ ...options, httpModules: { 'http:': hop, 'https:': hop } }, (error, response, body) => {
      if (error) return reject(error);
      // As the library's own default does.
      return response.statusCode >= 400 ? reject(body) : resolve(body);
    });
  });
}

async function main() {
  const { url, options, expected } = asked();
  const jira = new JiraApi({
    protocol: url.protocol.replace(':', ''),
    host: url.hostname,
    port: url.port,
    base: url.pathname.replace(/^\/|\/$/g, ''),
    apiVersion: '2',
    ...options,
  });
  const word = `w${crypto.randomBytes(6).toString('hex')}`;
  const fields = (summary, type) => ({
    fields: { project: { key: PROJECT }, summary, issuetype: { name: type } },
  });
  let key;
  let me;
  let attachment;
  let digest;

  const steps = {
    async 'server info'() {
      const info = await jira.getServerInfo();
      assert.equal(info.deploymentType, 'Server');
      return `${info.serverTitle} ${info.version} at ${info.baseUrl}`;
    },
    async myself() {
      me = (await jira.getCurrentUser()).name;
      if (expected) assert.equal(me, expected);
      return me;
    },
    async lists() {
      const counts = [await jira.listFields(), await jira.listPriorities(), await jira.listStatus()]
        .map((list) => list.length);
      assert.ok(counts.every(Boolean));
      return `${counts} fields, priorities, statuses`;
    },
    async project() {
      return (await jira.getProject(PROJECT)).name;
    },
    async create() {
      key = (await jira.addNewIssue(fields(`Printer on fire ${word}`, 'Task'))).key;
      return key;
    },
    async read() {
      const issue = await jira.findIssue(key);
      assert.equal(issue.fields.reporter.name, me);
      return issue.fields.status.name;
    },
    async search() {
      const found = await jira.searchJira(`project = ${PROJECT} AND text ~ ${word}`, { maxResults: 5 });
      assert.deepEqual(found.issues.map((issue) => issue.key), [key]);
      return `${found.total} found`;
    },
    async update() {
      await jira.updateIssue(key, { fields: { description: 'since 9 \u2603' } });
      assert.equal((await jira.findIssue(key)).fields.description, 'since 9 \u2603');
      return 'description';
    },
    async comment() {
      const added = await jira.addComment(key, 'first');
      await jira.updateComment(key, added.id, 'first, corrected');
      const { comments } = await jira.getComments(key);
      assert.deepEqual(comments.map((one) => one.body), ['first, corrected']);
      return added.author.name;
    },
    async assign() {
      await jira.updateAssignee(key, me);
      assert.equal((await jira.findIssue(key)).fields.assignee.name, me);
      return me;
    },
    async transition() {
      const { transitions } = await jira.listTransitions(key);
      const done = transitions.find((one) => one.name === 'Done');
      await jira.transitionIssue(key, { transition: { id: done.id } });
      assert.equal((await jira.findIssue(key)).fields.status.name, 'Done');
      return transitions.map((one) => one.name).join(', ');
    },
    async links() {
      const other = (await jira.addNewIssue(fields(`Water ${word}`, 'Bug'))).key;
      await jira.issueLink({
        type: { name: 'Blocks' }, inwardIssue: { key }, outwardIssue: { key: other },
      });
      assert.equal((await jira.findIssue(key)).fields.issuelinks.length, 1);
      await jira.createRemoteLink(key, { object: { url: 'https://vendor.example/1', title: 'Case 1' } });
      assert.equal((await jira.getRemoteLinks(key)).length, 1);
      return `${other}, and a remote link`;
    },
    async attach() {
      const bytes = crypto.randomBytes(SIZE);
      digest = crypto.createHash('sha256').update(bytes).digest('hex');
      const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'attach-'));
      process.on('exit', () => fs.rmSync(directory, { recursive: true, force: true }));
      const file = path.join(directory, 'report 1.bin');
      fs.writeFileSync(file, bytes);
      const answer = await jira.addAttachmentOnIssue(key, fs.createReadStream(file));
      [attachment] = typeof answer === 'string' ? JSON.parse(answer) : answer;
      assert.equal(attachment.size, SIZE);
      return `${attachment.filename}, ${attachment.size} bytes`;
    },
    async download() {
      const bytes = await jira.downloadAttachment(attachment);
      assert.equal(crypto.createHash('sha256').update(bytes).digest('hex'), digest);
      return `sha256 ${digest.slice(0, 16)}…`;
    },
    async errors() {
      await assert.rejects(jira.findIssue('NOPE-1'), /Issue Does Not Exist/);
      await assert.rejects(jira.addNewIssue({ fields: { project: { key: PROJECT } } }), /summary/);
      return 'refusals as Jira words them';
    },
  };

  for (const [name, step] of Object.entries(steps)) {
    const began = performance.now();
    try {
      const said = await step();
      console.log(`ok ${name}: ${said} (${Math.round(performance.now() - began)} ms)`);
    } catch (error) {
      console.log(`FAILED ${name}: ${String(error.message || error).split('\n')[0]}`);
      process.exit(1);
    }
  }
}

main();
