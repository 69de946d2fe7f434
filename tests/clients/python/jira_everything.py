#!/usr/bin/env python3
"""One of everything with the PyPI library `jira`."""

import uuid

from jira import JIRA
from jira.exceptions import JIRAError

from steps import arguments, at_home, attachment_file, check, digest_of, oauth1_of, steps


def main():
    asked = arguments(__doc__)
    base = asked.base_url
    login = {}
    if asked.login == "basic":
        login["basic_auth"] = tuple(asked.credential)
    elif asked.login == "pat":
        login["token_auth"] = asked.credential[0]
    elif asked.login == "oauth1":
        login["oauth"] = oauth1_of(asked)
    word = "w" + uuid.uuid4().hex[:12]
    kept = {}

    def connect():
        kept["jira"] = JIRA(server=base, max_retries=0, **login)
        info = kept["jira"].server_info()
        check(info["deploymentType"] == "Server", info["deploymentType"])
        return f"{info['serverTitle']} {info['version']} at {info['baseUrl']}"

    def myself():
        me = kept["jira"].myself()["name"]
        check(asked.expect_user in (None, me), f"Jira takes us for {me}")
        kept["me"] = me
        return me

    def permissions():
        every = kept["jira"].my_permissions(projectKey=asked.project)["permissions"]
        check(every["CREATE_ISSUES"]["havePermission"], "may not create issues")
        return f"{sum(p['havePermission'] for p in every.values())} of {len(every)}"

    def lists():
        jira = kept["jira"]
        check(any(field["id"] == "summary" for field in jira.fields()), "no field summary")
        counts = [len(jira.priorities()), len(jira.statuses()), len(jira.resolutions())]
        check(all(counts), counts)
        check(len(jira.issue_link_types()) > 0, "no link types")
        return f"{counts} priorities, statuses, resolutions"

    def projects():
        jira = kept["jira"]
        check(asked.project in [project.key for project in jira.projects()], "not listed")
        project = jira.project(asked.project)
        names = [component.name for component in jira.project_components(asked.project)]
        versions = [version.name for version in jira.project_versions(asked.project)]
        return f"{project.name}, components {names}, versions {versions}"

    def createmeta():
        jira = kept["jira"]
        types = jira.project_issue_types(asked.project)
        task = next(kind for kind in types if kind.name == "Task")
        fields = jira.project_issue_fields(asked.project, task.id)
        check(any(field.fieldId == "summary" for field in fields), "no summary")
        return f"{len(types)} types, {len(fields)} fields of {task.name}"

    def create():
        issue = kept["jira"].create_issue(
            project=asked.project,
            summary=f"Printer on fire {word}",
            description="Erste Zeile\nzweite\t%2F+\u2603",
            issuetype={"name": "Task"},
            priority={"name": "High"},
            labels=["tunnel", word],
        )
        kept["key"] = issue.key
        return issue.key

    def read():
        issue = kept["jira"].issue(kept["key"])
        check(issue.fields.summary == f"Printer on fire {word}", issue.fields.summary)
        check(issue.fields.description.endswith("\u2603"), "description changed")
        check(issue.fields.reporter.name == kept["me"], issue.fields.reporter.name)
        return issue.fields.status.name

    def search():
        jira = kept["jira"]
        found = jira.search_issues(f'project = {asked.project} AND summary ~ "{word}" ORDER BY created DESC')
        check([issue.key for issue in found] == [kept["key"]], [issue.key for issue in found])
        found = jira.search_issues(f"issueKey in ({kept['key']})", use_post=True, maxResults=False)
        check(len(found) == 1, len(found))
        return "by GET and by POST"

    def update():
        # Its `self` is Jira's own URL; the library brings it home.
        issue = kept["jira"].issue(kept["key"])
        issue.update(fields={"summary": f"Printer still on fire {word}", "priority": {"name": "Highest"}})
        check(kept["jira"].issue(kept["key"]).fields.priority.name == "Highest", "not updated")
        return "summary, priority"

    def comment():
        jira = kept["jira"]
        added = jira.add_comment(kept["key"], "first")
        added.update(body="first, corrected")
        bodies = [one.body for one in jira.comments(kept["key"])]
        check(bodies == ["first, corrected"], bodies)
        return jira.comment(kept["key"], added.id).author.name

    def assign():
        jira = kept["jira"]
        people = jira.search_assignable_users_for_issues(kept["me"], issueKey=kept["key"])
        check(kept["me"] in [person.name for person in people], "not assignable")
        url = f"{base}/rest/api/2/issue/{kept['key']}/assignee"
        jira._session.put(url, json={"name": kept["me"]})
        assignee = jira.issue(kept["key"], fields="assignee").fields.assignee.name
        check(assignee == kept["me"], assignee)
        return assignee

    def transition():
        jira = kept["jira"]
        names = [one["name"] for one in jira.transitions(kept["key"])]
        jira.transition_issue(kept["key"], "Start Progress")
        jira.transition_issue(kept["key"], "Done", comment="done", resolution={"name": "Done"})
        issue = jira.issue(kept["key"])
        check(issue.fields.status.name == "Done", issue.fields.status.name)
        check(issue.fields.resolution.name == "Done", "no resolution")
        return f"{names}, then Done"

    def links():
        jira = kept["jira"]
        other = jira.create_issue(project=asked.project, summary=f"Water {word}", issuetype={"name": "Bug"})
        jira.create_issue_link("Blocks", kept["key"], other.key)
        linked = jira.issue(kept["key"]).fields.issuelinks
        check([link.outwardIssue.key for link in linked] == [other.key], "not linked")
        jira.add_simple_link(kept["key"], {"url": "https://vendor.example/1", "title": "Case 1"})
        titles = [link.object.title for link in jira.remote_links(kept["key"])]
        check(titles == ["Case 1"], titles)
        return f"blocks {other.key}, and a remote link"

    def attach():
        check(kept["jira"].attachment_meta()["enabled"], "attachments are off")
        path, kept["digest"] = attachment_file(asked.size)
        attachment = kept["jira"].add_attachment(kept["key"], path)
        check(attachment.size == asked.size, attachment.size)
        kept["attachment"] = attachment.id
        return f"{attachment.filename}, {attachment.size} bytes"

    def download():
        jira = kept["jira"]
        attachment = jira.attachment(kept["attachment"])
        # Here it does not: `get()` and `iter_content()` follow the link as it is.
        attachment.content = at_home(base, attachment.content)
        digest = digest_of(attachment.iter_content(1 << 20))
        check(digest == kept["digest"], f"sha256 {digest} is not {kept['digest']}")
        return f"sha256 {digest[:16]}…"

    def errors():
        jira = kept["jira"]
        try:
            jira.issue("NOPE-1")
            check(False, "found an issue that is not there")
        except JIRAError as error:
            check((error.status_code, error.text) == (404, "Issue Does Not Exist"), error.text)
        try:
            jira.create_issue(project=asked.project, issuetype={"name": "Task"})
            check(False, "created an issue without a summary")
        except JIRAError as error:
            check(error.status_code == 400, error.status_code)
            check("summary" in error.response.json()["errors"], error.text)
        return "404, 400"

    steps([
        ("connect", connect), ("myself", myself), ("permissions", permissions), ("lists", lists),
        ("projects", projects), ("createmeta", createmeta), ("create", create), ("read", read),
        ("search", search), ("update", update), ("comment", comment), ("assign", assign),
        ("transition", transition), ("links", links), ("attach", attach),
        ("download", download), ("errors", errors),
    ])


if __name__ == "__main__":
    main()
