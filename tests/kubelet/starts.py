"""How containers come up: sidecars, probes by TCP, a program that cannot start, an image that is not there yet."""

import registry
from on_kubelet import START, OnKubelet
from pods import IDLE, IMAGE, SIGNALS, SIGNALS_MOUNT, main, pod, signals
from wait import until

# A registry's name that leads to a place without images first.
LATER = "later.example"
SHARED = {"name": "shared", "mountPath": "/shared"}


def accompanied() -> dict:
    """A sidecar is up before the second init container looks for it, and ends after the main container."""
    script = ("rm -f /shared/crash; trap 'echo sidecar says farewell; exit 0' TERM; touch /shared/up;"
              " while [ ! -e /shared/crash ]; do usleep 100000; done; exit 5")
    up = {"exec": {"command": ["test", "-e", "/shared/up"]}, "periodSeconds": 1, "failureThreshold": 60}
    sidecar = {**main(script), "name": "sidecar", "restartPolicy": "Always", "startupProbe": up, "volumeMounts": [SHARED]}
    second = {**main("test -e /shared/up || exit 9"), "name": "second", "volumeMounts": [SHARED]}
    wait = "while [ ! -e /signals/accompanied ]; do usleep 100000; done; echo main is done"
    return pod("accompanied", restartPolicy="Never", initContainers=[sidecar, second],
               containers=[main(wait, volumeMounts=[SHARED, SIGNALS_MOUNT])],
               volumes=[{"name": "shared", "emptyDir": {}}, signals()])


def listening_when_told() -> dict:
    wait = "while [ {not_}-e /signals/listen ]; do usleep 100000; done"
    script = ("trap 'exit 0' TERM; while :; do " + wait.format(not_="! ") + "; httpd -f -p 9090 & "
              + wait.format(not_="") + "; kill $!; wait $!; done")
    probe = {"tcpSocket": {"port": 9090}, "periodSeconds": 1, "failureThreshold": 1}
    return pod("listen", containers=[main(script, readinessProbe=probe, volumeMounts=[SIGNALS_MOUNT])],
               volumes=[signals()])


def impossible() -> dict:
    absent = {**main(""), "command": ["/no/such/program"]}
    plain = {**main(""), "name": "plain", "command": ["/etc/passwd"]}
    return pod("impossible", restartPolicy="Never", containers=[absent, plain])


def later() -> dict:
    image = IMAGE.replace("registry.k8s.io", LATER)
    return pod("later", containers=[{**main(IDLE), "image": image}])


class Sidecar(OnKubelet):
    def test_a_is_up_before_the_next_init_container(self):
        self.await_running("accompanied")
        second = self.kubelet.container("accompanied", "second")["state"]["terminated"]
        self.assertEqual((second["exitCode"], second["reason"]), (0, "Completed"))
        sidecar = self.await_running("accompanied", "sidecar")
        self.assertLessEqual(sidecar["state"]["running"]["startedAt"], second["startedAt"])

    def test_b_crash_of_it_restarts_it_alone(self):
        beside = self.await_running("accompanied")["containerID"]
        before = self.await_running("accompanied", "sidecar")
        self.run_in("accompanied", "touch", "/shared/crash")
        until(lambda: self.kubelet.container("accompanied", "sidecar")["restartCount"] > before["restartCount"],
              START, "the sidecar is restarted")
        ended = until(lambda: self.kubelet.container("accompanied", "sidecar")["lastState"]["terminated"], START, "its end")
        self.assertEqual((ended["exitCode"], ended["reason"]), (5, "Error"))
        self.assertEqual(self.await_running("accompanied")["containerID"], beside)

    def test_c_ends_after_the_main_container(self):
        self.await_running("accompanied", "sidecar")
        (SIGNALS / "accompanied").touch()
        until(lambda: self.kubelet.pod("accompanied")["status"]["phase"] == "Succeeded", START, "Succeeded")
        main_end, sidecar_end = self.await_ended("accompanied"), self.await_ended("accompanied", "sidecar")
        self.assertEqual(sidecar_end["exitCode"], 0)
        self.assertGreaterEqual(sidecar_end["finishedAt"], main_end["finishedAt"])
        self.assertIn("sidecar says farewell", self.kubelet.log_file("accompanied", "sidecar").read_text())


class TcpProbe(OnKubelet):
    def test_tcp_readiness_follows_the_port(self):
        self.await_running("listen")
        self.await_ready("listen", False)
        (SIGNALS / "listen").touch()
        self.await_ready("listen", True)
        (SIGNALS / "listen").unlink()
        self.await_ready("listen", False)
        (SIGNALS / "listen").touch()
        self.await_ready("listen", True)


class StartError(OnKubelet):
    def test_program_that_is_not_there_is_128_and_names_it(self):
        self.assert_start_error("main", "/no/such/program")

    def test_program_that_may_not_be_executed_is_128_and_names_it(self):
        self.assert_start_error("plain", "/etc/passwd")

    def assert_start_error(self, container: str, program: str) -> None:
        ended = self.await_ended("impossible", container)
        self.assertEqual((ended["exitCode"], ended["reason"]), (128, "StartError"))
        self.assertIn(program, ended["message"])


class MissingImage(OnKubelet):
    def test_pod_waits_for_its_image_and_starts_when_it_is_there(self):
        def reason() -> str:
            return self.kubelet.container("later")["state"]["waiting"]["reason"]

        until(lambda: reason() == "ErrImagePull", START, "ErrImagePull")
        until(lambda: reason() == "ImagePullBackOff", START, "ImagePullBackOff")
        registry.write_mirror(self.runtime.mirrors, LATER, registry.ADDRESS)
        self.await_running("later")


PODS = (accompanied, listening_when_told, impossible, later)
CASES = (MissingImage, Sidecar, TcpProbe, StartError)


def prepare(mirrors) -> None:
    """Before the pods are put: the registry of `later` has no image yet."""
    registry.write_mirror(mirrors, LATER, f"{registry.ADDRESS}/nowhere")
