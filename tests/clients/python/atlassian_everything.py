#!/usr/bin/env python3
"""One of everything with the PyPI library `atlassian-python-api`."""

import uuid

from atlassian import Jira
from requests.exceptions import HTTPError

from steps import arguments, at_home, attachment_file, check, digest_of, oauth1_of, steps


def main():
    asked = arguments(__doc__)
    base = asked.base_url
    login = {}
    if asked.login == "basic":
        login["username"], login["password"] = asked.credential
    elif asked.login == "pat":
        login["token"] = asked.credential[0]
    elif asked.login == "oauth1":
        login["oauth"] = oauth1_of(asked)
    elif asked.login == "oauth2":
        client, token = asked.credential
        login["oauth2"] = {
            "client_id": client,
            "token": {"access_token": token, "token_type": "bearer"},
        }
    jira = Jira(url=base, api_version=2, cloud=False, **login)
    word = "w" + uuid.uuid4().hex[:12]
    kept = {}

    def server_info():
        info = jira.get_server_info()
        check(info["deploymentType"] == "Server", info["deploymentType"])
        return f"{info['serverTitle']} {info['version']} at {info['baseUrl']}"

    def myself():
        me = jira.myself()["name"]
        check(asked.expect_user in (None, me), f"Jira takes us for {me}")
        kept["me"] = me
        return me

    def lists():
        check(any(field["id"] == "summary" for field in jira.get_all_fields()), "no field summary")
        counts = [len(jira.get_all_priorities()), len(jira.get_all_statuses())]
        check(all(counts), counts)
        return f"{counts} priorities, statuses"

    def projects():
        check(asked.project in [project["key"] for project in jira.projects()], "not listed")
        return jira.project(asked.project)["lead"]["displayName"]

    def createmeta():
        types = jira.issue_createmeta_issuetypes(asked.project)["values"]
        task = next(kind for kind in types if kind["name"] == "Task")
        fields = jira.issue_createmeta_fieldtypes(asked.project, task["id"])["values"]
        check(any(field["fieldId"] == "summary" for field in fields), "no summary")
        return f"{len(types)} types, {len(fields)} fields"

    def create():
        issue = jira.create_issue(fields={
            "project": {"key": asked.project},
            "summary": f"Printer on fire {word}",
            "issuetype": {"name": "Task"},
            "labels": [word],
        })
        kept["key"] = issue["key"]
        return issue["key"]

    def read():
        fields = jira.issue(kept["key"])["fields"]
        check(fields["reporter"]["name"] == kept["me"], fields["reporter"])
        return fields["status"]["name"]

    def search():
        found = jira.jql(f'project = {asked.project} AND labels = {word}')
        check([issue["key"] for issue in found["issues"]] == [kept["key"]], found["total"])
        return f"{found['total']} found"

    def update():
        jira.update_issue_field(kept["key"], {"description": "on fire since 9\u202f%2F"})
        check(jira.issue(kept["key"])["fields"]["description"].endswith("%2F"), "not updated")
        check("summary" in jira.issue_editmeta(kept["key"])["fields"], "no editmeta")
        return "description"

    def comment():
        added = jira.issue_add_comment(kept["key"], "first")
        jira.issue_edit_comment(kept["key"], added["id"], "first, corrected")
        bodies = [one["body"] for one in jira.issue_get_comments(kept["key"])["comments"]]
        check(bodies == ["first, corrected"], bodies)
        return added["author"]["name"]

    def assign():
        jira.assign_issue(kept["key"], kept["me"])
        assignee = jira.issue(kept["key"], fields="assignee")["fields"]["assignee"]["name"]
        check(assignee == kept["me"], assignee)
        return assignee

    def transition():
        jira.set_issue_status(kept["key"], "In Progress")
        jira.set_issue_status(kept["key"], "Done", fields={"resolution": {"name": "Won't Do"}})
        fields = jira.issue(kept["key"])["fields"]
        check(fields["resolution"]["name"] == "Won't Do", fields["resolution"])
        return fields["status"]["name"]

    def links():
        other = jira.create_issue(fields={
            "project": {"key": asked.project}, "summary": f"Water {word}", "issuetype": {"name": "Bug"},
        })["key"]
        jira.create_issue_link({
            "type": {"name": "Relates"}, "inwardIssue": {"key": kept["key"]}, "outwardIssue": {"key": other},
        })
        check(len(jira.issue(kept["key"])["fields"]["issuelinks"]) == 1, "not linked")
        for title in ("Case 1", "Case 1, again"):
            jira.create_or_update_issue_remote_links(
                kept["key"], "https://vendor.example/1", title, global_id="vendor=1")
        titles = [link["object"]["title"] for link in jira.get_issue_remote_links(kept["key"])]
        check(titles == ["Case 1, again"], titles)
        return f"{other}, and a remote link"

    def attach():
        path, kept["digest"] = attachment_file(asked.size)
        attachment = jira.add_attachment(kept["key"], path)[0]
        check(attachment["size"] == asked.size, attachment["size"])
        kept["attachment"] = attachment["id"]
        return f"{attachment['filename']}, {attachment['size']} bytes"

    def download():
        content = at_home(base, jira.get_attachment(kept["attachment"])["content"])
        answer = jira._session.get(content, headers=jira.default_headers, stream=True)
        answer.raise_for_status()
        digest = digest_of(answer.iter_content(1 << 20))
        check(digest == kept["digest"], f"sha256 {digest} is not {kept['digest']}")
        return f"sha256 {digest[:16]}…"

    def errors():
        try:
            jira.issue("NOPE-1")
        except HTTPError as error:
            check(error.response.status_code == 404, error.response.status_code)
            check(error.response.json()["errorMessages"] == ["Issue Does Not Exist"], error)
            return "404"
        raise AssertionError("found an issue that is not there")

    steps([
        ("server info", server_info), ("myself", myself), ("lists", lists), ("projects", projects),
        ("createmeta", createmeta), ("create", create), ("read", read), ("search", search),
        ("update", update), ("comment", comment), ("assign", assign), ("transition", transition),
        ("links", links), ("attach", attach), ("download", download), ("errors", errors),
    ])


if __name__ == "__main__":
    main()
