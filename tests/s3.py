"""
A bucket's server, in this process: moto's, which speaks S3 over a socket.

Users of its IAM have the rights of their policies; any other access key has every right. Where
moto's own checks differ from S3's, they are made here: a signed URL has its signer's rights, a
deletion needs the right for each file, and a copy the right to read its source. Not checked: that
without `s3:ListBucket` a missing file is forbidden (403) instead of missing (404), and the
signature of a signed URL.
"""

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

POLICIES = Path(__file__).parents[1] / "deploy" / "aws"


@contextmanager
def s3_server(port: int = 0) -> Iterator[str]:
    """Run one for a while; gives its URL. All of a process hold the same buckets."""
    # A second of imports, for those alone who want a bucket.
    from moto.server import ThreadedMotoServer

    _obey_policies()
    server = ThreadedMotoServer("127.0.0.1", port, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def policy(name: str, bucket: str, prefix: str) -> dict[str, Any]:
    """Return a policy of `deploy/aws` for a bucket and a prefix in it."""
    text = (POLICIES / f"{name}.json").read_text()
    document: dict[str, Any] = json.loads(text.replace("BUCKET", bucket).replace("PREFIX", prefix))
    return document


def user_with(url: str, document: Mapping[str, Any]) -> dict[str, str]:
    """Make a user with a policy, and return the environment of its processes."""
    import boto3

    iam = boto3.client(
        "iam", endpoint_url=url, region_name="us-east-1", aws_access_key_id="AKID",
        aws_secret_access_key="secret",
    )  # fmt: skip
    name = f"user-{token_hex(8)}"
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="p", PolicyDocument=json.dumps(document))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return {
        "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
        "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
        "AWS_ALLOW_HTTP": "true",
    }


def become(monkeypatch: pytest.MonkeyPatch, environment: Mapping[str, str]) -> None:
    """Set a user's environment for the rest of a test."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)


@cache
def _obey_policies() -> None:
    from moto.core.authorization import ActionAuthenticatorMixin
    from moto.iam.access_control import CreateAccessKeyFailure, S3IAMRequest, create_access_key

    def check(self: Any, bucket_name: str | None = None, key_name: str | None = None) -> None:
        parts = urlsplit(self.uri)
        signed = parse_qs(parts.query).get("X-Amz-Credential")
        by = f"AWS4-HMAC-SHA256 Credential={signed[0]}, " if signed else ""
        headers = {**self.headers, "Authorization": self.headers.get("Authorization", by)}
        key_id = re.search("Credential=([^/]+)/", headers["Authorization"])
        if key_id is None:
            return
        try:
            create_access_key(
                account_id=self.current_account, partition="aws", access_key_id=key_id[1],
                headers=headers,
            )  # fmt: skip
        except CreateAccessKeyFailure:
            return  # every right
        for action, of in _needed(self, bucket_name, key_name):
            request = S3IAMRequest(
                account_id=self.current_account,
                method=self.method,
                path=f"{self.raw_path}?{parts.query}" if parts.query else self.raw_path,
                data=self.data,
                body=self.raw_body,
                headers=headers,
                action=action,
            )
            if not signed:
                request.check_signature()
            request.check_action_permitted(f"arn:aws:s3:::{of}")

    ActionAuthenticatorMixin._authenticate_and_authorize_s3_action = check  # type: ignore[method-assign]


def _needed(asked: Any, bucket: str | None, key: str | None) -> Iterator[tuple[str, str]]:
    """Yield each action with its bucket or file."""
    action = asked._get_action()
    if action == "DeleteObject" and key is None:
        for each in re.findall("<Key>(.*?)</Key>", asked.raw_body.decode()):
            yield action, f"{bucket}/{each}"
        return
    yield action, f"{bucket}/{key}" if key else f"{bucket}"
    source = asked.headers.get("x-amz-copy-source")
    if source:
        yield "GetObject", unquote(source).removeprefix("/")
