"""What the client scripts share: arguments, steps that print one line each, links brought home."""

import argparse
import atexit
import hashlib
import os
import shutil
import sys
import tempfile
import time

import requests

ATTACHMENT_NAME = "réport 1+1.bin"


def arguments(description):
    """BASE_URL and the login: `basic USER PASSWORD`, `pat TOKEN`, `oauth1 CONSUMER KEY_FILE TOKEN SECRET`,
    `oauth2 CLIENT TOKEN`, or `none`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("base_url", help="with the context path, without a slash at its end")
    parser.add_argument("login", choices=["basic", "pat", "oauth1", "oauth2", "none"])
    parser.add_argument("credential", nargs="*", help="what the login needs")
    parser.add_argument("--jira-url", help="Jira's own URL, which is signed for; led through BASE_URL")
    parser.add_argument("--expect-user", help="who Jira must take us for")
    parser.add_argument("--project", default="DEMO")
    parser.add_argument("--size", type=int, default=1 << 20, help="bytes of the attachment")
    asked = parser.parse_args()
    wanted = {"basic": 2, "pat": 1, "oauth1": 4, "oauth2": 2, "none": 0}[asked.login]
    if len(asked.credential) != wanted:
        parser.error(f"{asked.login} wants {wanted} more")
    asked.base_url = asked.base_url.rstrip("/")
    if asked.jira_url:
        lead_through(asked.base_url, asked.jira_url)
        asked.base_url = asked.jira_url
    return asked


def oauth1_of(asked):
    """The login as `jira` and `atlassian-python-api` take it; both have another default signature."""
    consumer, key_file, token, secret = asked.credential
    with open(key_file, encoding="ascii") as file:
        key = file.read()
    return {
        "consumer_key": consumer,
        "key_cert": key,
        "access_token": token,
        "access_token_secret": secret,
        "signature_method": "RSA-SHA1",
    }


def lead_through(tunnel, jira):
    """Sends every request for Jira's URL to the tunnel instead, after it was signed: what a vendor's
    transport does whose OAuth 1.0a signatures must be made over the URL that Jira sees."""
    sent = requests.adapters.HTTPAdapter.send

    def send(adapter, request, **options):
        if request.url.startswith(jira):
            request.url = tunnel + request.url[len(jira):]
        return sent(adapter, request, **options)

    requests.adapters.HTTPAdapter.send = send


def steps(every):
    """Runs each (name, function) in order; the first that fails ends the process with 1."""
    for name, step in every:
        began = time.monotonic()
        try:
            said = step()
        except Exception as error:  # whatever it is, it is this step's failure
            first_line = (str(error).splitlines() or [""])[0]
            print(f"FAILED {name}: {type(error).__name__}: {first_line}", flush=True)
            sys.exit(1)
        took = (time.monotonic() - began) * 1000
        print(f"ok {name}: {said} ({took:.0f} ms)", flush=True)


def check(condition, what):
    """An assertion that stays under `python -O`."""
    if not condition:
        raise AssertionError(what)


def at_home(base_url, link):
    """A link of Jira's, which carries Jira's own base URL, as we reach it."""
    for part in ("/rest/", "/secure/"):
        if part in link:
            return base_url + link[link.index(part):]
    raise AssertionError(f"not a link of Jira's: {link}")


def attachment_file(size):
    """A file of random bytes, gone when the script ends, and its SHA-256."""
    digest = hashlib.sha256()
    directory = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    path = os.path.join(directory, ATTACHMENT_NAME)
    left = size
    with open(path, "wb") as file:
        while left:
            chunk = os.urandom(min(left, 1 << 20))
            digest.update(chunk)
            file.write(chunk)
            left -= len(chunk)
    return path, digest.hexdigest()


def digest_of(chunks):
    """The SHA-256 of a body that streams."""
    digest = hashlib.sha256()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
