"""URLs of exec, attach and port-forward: their tokens guessed, changed and used again."""

import http.client
import secrets
import subprocess
import urllib.parse

from attempts import Attempts

UPGRADE = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1", "X-Stream-Protocol-Version": "v4.channel.k8s.io"}


class Sessions(Attempts):
    def url(self, container: str, *words: str) -> urllib.parse.SplitResult:
        """Of an exec that is not begun."""
        command = ["streams", "url", "--endpoint", self.runtime.endpoint, "--container", container, "--", *words]
        return urllib.parse.urlsplit(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())

    def asked(self, address: str, path: str) -> int:
        """The status of what a client is told who comes with this path."""
        connection = http.client.HTTPConnection(address, timeout=20)
        connection.request("POST", path, headers=UPGRADE)
        status = connection.getresponse().status
        connection.close()
        return status

    def test_a_token_is_used_again(self):
        """Guard: a session is taken out when its token comes (`Sessions::take`, src/engine/session)."""
        container = self.pod.idle(self.name)
        url = self.url(container, "true")
        self.assertEqual(self.asked(url.netloc, url.path), 101)
        for _ in range(3):
            self.assertEqual(self.asked(url.netloc, url.path), 404)

    def test_a_token_is_used_for_something_else(self):
        """Guard: a token is looked for among the sessions of its verb."""
        container = self.pod.idle(self.name)
        url = self.url(container, "true")
        token = url.path.rsplit("/", 1)[1]
        for verb in ("attach", "portforward"):
            self.assertIn(self.asked(url.netloc, f"/{verb}/{token}"), (400, 404))

    def test_tokens_are_guessed(self):
        """Guard: their length (src/engine/session): of random guesses and neighbours of a good one none is let in."""
        container = self.pod.idle(self.name)
        url = self.url(container, "touch", "/signals/escaped")
        root, token = url.path.rsplit("/", 1)
        self.assertGreaterEqual(len(token), 22, "128 bits, as base64")
        near = [token[:-1] + other for other in "0aZ_-." if other != token[-1]] + [token.swapcase(), token[:-1], token + "0", token[::-1], ""]
        guesses = near + [secrets.token_urlsafe(len(token))[:len(token)] for _ in range(100)]
        for guess in guesses + ["..", "%2e%2e", "*", "%00", "null", "../" + token]:
            self.assertIn(self.asked(url.netloc, f"{root}/{guess}"), (400, 404, 405), guess)
        others = {self.url(container, "true").path for _ in range(20)}
        self.assertEqual(len(others), 20)
        alike = max(sum(a == b for a, b in zip(token, other.rsplit("/", 1)[1])) for other in others)
        self.assertLess(alike, len(token) / 2, "tokens have much in common")
