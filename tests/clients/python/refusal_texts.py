#!/usr/bin/env python3
"""What two Python libraries show of an answer that the agent gives itself: prints a JSON object by library."""

import json
import logging
import sys

from atlassian import Jira
from jira import JIRA
from jira.exceptions import JIRAError
from requests.exceptions import HTTPError


def main():
    base, path = sys.argv[1:]
    logging.disable(logging.CRITICAL)
    jira = JIRA(server=base, max_retries=0, get_server_info=False, token_auth="vendors-secret")
    atlassian = Jira(url=base, token="vendors-secret")
    shown = {}
    try:
        jira._session.get(f"{base}/{path}")
    except JIRAError as error:
        shown["jira"] = error.text
    try:
        atlassian.get(path)
    except HTTPError as error:
        shown["atlassian-python-api"] = str(error)
    print(json.dumps(shown))


if __name__ == "__main__":
    main()
