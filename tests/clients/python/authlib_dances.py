#!/usr/bin/env python3
"""A vendor that runs its own OAuth with the PyPI library `Authlib`, through the tunnel.

`oauth1 CONSUMER KEY_FILE`, or `oauth2 CLIENT SECRET`. What a person's browser does goes to Jira directly,
for it is inside the customer's network; everything else goes through BASE_URL. The last line is the
tokens as JSON.
"""

import argparse
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request

import requests
from authlib.common.security import generate_token
from authlib.integrations.requests_client import OAuth1Session, OAuth2Session

from steps import check, lead_through, steps

# No `%` in it: Authlib decodes protocol parameters twice when it signs (RFC 5849 §3.4.1.3.1 says once).
CALLBACK = "https://vendor.example/back?from=jira&x=1"


class Stay(urllib.request.HTTPRedirectHandler):
    """A redirect is the answer."""

    def redirect_request(self, *_):
        return None


def browser(url, user, password):
    """A person logs in and allows; gives where Jira sends the browser."""
    form = {"username": user, "password": password, "decision": "allow"}
    opener = urllib.request.build_opener(
        urllib.request.ProxyHandler({}),
        urllib.request.HTTPSHandler(context=ssl._create_unverified_context()),
        Stay(),
    )
    try:
        reply = opener.open(url, urllib.parse.urlencode(form).encode())
    except urllib.error.HTTPError as error:
        check(error.code == 302, f"{error.code} from the consent page")
        return error.headers["Location"]
    raise AssertionError(f"{reply.status} instead of a redirect")


def through_the_outlet(location):
    """The browser goes where Jira sends it; the vendor's receiver gives back the target that it got."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return opener.open(location).read().decode()


def known_as(reply, user):
    """Whom Jira took us for, whatever it thinks of the request."""
    name = reply.headers.get("X-AUSERNAME")
    check(name == user, f"{reply.status_code}, Jira takes us for {name}")
    return reply


def refused_by_policy(reply):
    check(reply.status_code == 403, f"{reply.status_code} from {reply.url}")
    check("policy-refused" in reply.json()["type"], reply.text)


def oauth1(asked, kept):
    consumer, key_file = asked.credential
    with open(key_file, encoding="ascii") as file:
        key = file.read()
    oauth = asked.jira_url + "/plugins/servlet/oauth"
    api = asked.jira_url + "/rest/api/2"
    callback = asked.outlet + "/back?from=jira&x=1" if asked.outlet else CALLBACK
    session = OAuth1Session(
        consumer, rsa_key=key, signature_method="RSA-SHA1", redirect_uri=callback
    )

    def request_token():
        token = session.fetch_request_token(oauth + "/request-token")
        check(token["oauth_callback_confirmed"] == "true", token)
        kept["address"] = session.create_authorization_url(oauth + "/authorize")
        return "confirmed"

    def browser_steps_stay_inside():
        refused_by_policy(requests.get(kept["address"]))
        refused_by_policy(requests.get(oauth + "/users/icon-uri?consumerUri=x"))
        return "authorize is not for the vendor"

    def access_token():
        location = browser(kept["address"], asked.user, asked.password)
        check(location.startswith(callback + "&oauth_token="), location)
        if asked.outlet:
            location = "https://vendor.example" + through_the_outlet(location)
        session.parse_authorization_response(location)
        token = session.fetch_access_token(oauth + "/access-token")
        kept["tokens"] = [token["oauth_token"], token["oauth_token_secret"]]
        return f"lives {token['oauth_expires_in']} s"

    def queries():
        for query in [
            "", "?", "?a=b=c&a=&a", "?b=1&a=2&A=3", "?q=%2B%20+%26%3D", "?u=%C3%A4%E2%98%83",
            "?p=%252F&expand=a,b",
        ]:
            check(known_as(session.get(f"{api}/myself{query}"), asked.user).ok, query)
        # No such issue; the path, with its slash at the end, was signed as it is written.
        known_as(session.get(f"{api}/issue/NOPE-1/"), asked.user)
        return "as they were signed"

    def bodies():
        found = session.post(f"{api}/search", json={"jql": "project = DEMO", "maxResults": 1})
        check(known_as(found, asked.user).ok, found.text)
        # Jira's REST API takes no forms, but its login reads and verifies them first.
        headers = {"X-Atlassian-Token": "no-check"}
        form = {"jql": "a + b & c", "empty": "", "ü": "%"}
        known_as(session.post(f"{api}/search?z=1&a=2", data=form, headers=headers), asked.user)
        return "JSON and a form"

    def a_changed_form_does_not_verify():
        request = requests.Request("POST", f"{api}/search", data={"jql": "x"}, auth=session.auth)
        prepared = session.prepare_request(request)
        prepared.body = "jql=y"
        reply = session.send(prepared)
        problem = reply.headers.get("WWW-Authenticate", "")
        check(reply.status_code == 401 and "signature_invalid" in problem, reply.status_code)
        return "signature_invalid"

    return [
        ("request token", request_token),
        ("browser", browser_steps_stay_inside),
        ("access token", access_token),
        ("queries", queries),
        ("bodies", bodies),
        ("changed on the way", a_changed_form_does_not_verify),
    ]


def oauth2(asked, kept):
    client, secret = asked.credential
    oauth = asked.jira_url + "/rest/oauth2/latest"
    myself = asked.jira_url + "/rest/api/2/myself"
    session = OAuth2Session(
        client,
        secret,
        scope="WRITE",
        redirect_uri=CALLBACK,
        code_challenge_method="S256",
        token_endpoint_auth_method="client_secret_post",
        revocation_endpoint_auth_method="client_secret_post",
    )

    def code():
        kept["verifier"] = generate_token(64)
        address, kept["state"] = session.create_authorization_url(
            oauth + "/authorize", code_verifier=kept["verifier"]
        )
        refused_by_policy(requests.get(address))
        kept["location"] = browser(address, asked.user, asked.password)
        return "with PKCE"

    def token():
        got = session.fetch_token(
            oauth + "/token",
            authorization_response=kept["location"],
            state=kept["state"],
            code_verifier=kept["verifier"],
        )
        check(known_as(session.get(myself), asked.user).ok, "not taken")
        kept["first"] = got["access_token"]
        return f"lives {got['expires_in']} s"

    def refresh():
        session.refresh_token(oauth + "/token", refresh_token=session.token["refresh_token"])
        check(session.token["access_token"] != kept["first"], "the same token")
        check(known_as(session.get(myself), asked.user).ok, "not taken")
        old = requests.get(myself, headers={"Authorization": f"Bearer {kept['first']}"})
        check(old.status_code == 401, f"the old token: {old.status_code}")
        kept["tokens"] = [session.token["access_token"]]
        return "the old one is dead"

    def clients_stay_inside():
        refused_by_policy(session.get(oauth + "/clients"))
        refused_by_policy(session.get(oauth + "/token"))
        return "no client is shown"

    def revoke():
        # Another login's, so that the tokens above stay alive.
        kept_token = session.token
        address, state = session.create_authorization_url(
            oauth + "/authorize", code_verifier=kept["verifier"]
        )
        got = session.fetch_token(
            oauth + "/token",
            authorization_response=browser(address, asked.user, asked.password),
            state=state,
            code_verifier=kept["verifier"],
        )
        reply = session.revoke_token(oauth + "/revoke", token=got["refresh_token"])
        check(reply.status_code == 200, reply.status_code)
        check(session.get(myself).status_code == 401, "it lives on")
        session.token = kept_token
        check(known_as(session.get(myself), asked.user).ok, "the other one is dead too")
        return "the token is dead"

    return [
        ("code", code),
        ("token", token),
        ("refresh", refresh),
        ("clients", clients_stay_inside),
        ("revoke", revoke),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base_url", help="of the tunnel, with the context path")
    parser.add_argument("jira_url", help="Jira's own")
    parser.add_argument("user")
    parser.add_argument("password")
    parser.add_argument("login", choices=["oauth1", "oauth2"])
    parser.add_argument("credential", nargs=2)
    parser.add_argument("--outlet", help="its URL; Jira sends the browser there, and so to the vendor")
    asked = parser.parse_args()
    lead_through(asked.base_url, asked.jira_url)
    kept = {}
    steps({"oauth1": oauth1, "oauth2": oauth2}[asked.login](asked, kept))
    print(json.dumps(kept["tokens"]))


if __name__ == "__main__":
    main()
