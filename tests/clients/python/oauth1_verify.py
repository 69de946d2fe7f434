#!/usr/bin/env python3
"""Verifies OAuth 1.0a signatures (RSA-SHA1) with two implementations that know nothing of ours.

Standard input is one JSON object: `public_key` (PEM), `consumer_key`, `token` (empty for two-legged
requests), and `requests`, each with `method`, `url` (scheme and host as the server sees them, target as
received), `headers` and `body`. Each must verify, with `oauthlib`'s endpoints and with Authlib's base
string under OpenSSL (`cryptography`); and must not any more once a parameter, the method or the path is
another one.
"""

import base64
import json
import os
import sys

os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"

from authlib.oauth1.rfc5849.signature import generate_signature_base_string
from authlib.oauth1.rfc5849.wrapper import OAuth1Request
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from oauthlib.oauth1 import RequestValidator, ResourceEndpoint, SignatureOnlyEndpoint


class Validator(RequestValidator):
    """Knows one consumer, one token, and lets no nonce pass twice."""

    enforce_ssl = False
    dummy_client = "nobody"
    dummy_access_token = "nothing"

    def __init__(self, told):
        super().__init__()
        self.told = told
        self.nonces = set()

    def check_client_key(self, client_key):
        return bool(client_key)

    def check_nonce(self, nonce):
        return len(nonce) >= 16

    def check_access_token(self, request_token):
        return bool(request_token)

    def validate_client_key(self, client_key, request):
        return client_key == self.told["consumer_key"]

    def validate_access_token(self, client_key, token, request):
        return token == self.told["token"]

    def validate_realms(self, client_key, token, request, uri=None, realms=None):
        return True

    def validate_timestamp_and_nonce(self, client_key, timestamp, nonce, request, **_tokens):
        used = (client_key, timestamp, nonce)
        if used in self.nonces:
            return False
        self.nonces.add(used)
        return True

    def get_rsa_key(self, client_key, request):
        return self.told["public_key"]


def by_oauthlib(validator, asked):
    three_legged = bool(validator.told["token"])
    endpoint = ResourceEndpoint if three_legged else SignatureOnlyEndpoint
    check = endpoint(validator)
    check = check.validate_protected_resource_request if three_legged else check.validate_request
    valid, request = check(
        asked["url"], http_method=asked["method"], body=asked["body"], headers=asked["headers"]
    )
    if valid and request.resource_owner_key != validator.told["token"]:
        return False
    return valid


def by_openssl(public_key, asked):
    is_form = "x-www-form-urlencoded" in asked["headers"].get("Content-Type", "")
    headers = {"Authorization": asked["headers"]["Authorization"]}
    request = OAuth1Request(
        asked["method"], asked["url"], asked["body"] if is_form else None, headers
    )
    base_string = generate_signature_base_string(request)
    try:
        signature = base64.b64decode(request.signature, validate=True)
        public_key.verify(signature, base_string.encode(), padding.PKCS1v15(), SHA1())
        return True
    except InvalidSignature:
        return False


def spoiled(asked):
    """The same request, changed in one place at a time."""
    url, question, query = asked["url"].partition("?")
    yield "parameter", {**asked, "url": f"{asked['url']}{'&' if question else '?'}added=1"}
    yield "path", {**asked, "url": f"{url}x{question}{query}"}
    other = "PUT" if asked["method"] != "PUT" else "POST"
    yield "method", {**asked, "method": other}


def main():
    told = json.load(sys.stdin)
    public_key = load_pem_public_key(told["public_key"].encode())
    validator = Validator(told)
    wrong = []
    for asked in told["requests"]:
        name = f"{asked['method']} {asked['url']} {asked['body']!r}"
        if not by_oauthlib(validator, asked):
            wrong.append(f"oauthlib refuses {name}")
        if not by_openssl(public_key, asked):
            wrong.append(f"OpenSSL refuses {name}")
        for what, bad in spoiled(asked):
            if by_oauthlib(Validator(told), bad) or by_openssl(public_key, bad):
                wrong.append(f"another {what} verifies too: {name}")
    for line in wrong:
        print(line)
    print(f"{len(told['requests'])} requests, {len(wrong)} wrong")
    sys.exit(1 if wrong or not told["requests"] else 0)


if __name__ == "__main__":
    main()
