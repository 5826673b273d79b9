"""The layers that the test images are made of."""

import glob
import os
import subprocess
import sys

from layer import Blob, Layer

HERE = os.path.dirname(os.path.abspath(__file__))
PASSWD = """root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
GROUP = """root:x:0:
daemon:x:1:
www-data:x:33:
nogroup:x:65534:
"""
FOLDERS = {"tmp": 0o1777, "var/run": 0o755, "var/log": 0o755, "root": 0o700, "home": 0o755,
           "proc": 0o555, "sys": 0o555, "dev": 0o755}
IPTABLES = "/usr/sbin/xtables-nft-multi"
NGINX_CONF = """user root;
pid /var/run/nginx.pid;
worker_processes 1;
error_log /dev/stderr;
events {}
http {
    access_log /dev/stdout;
    server {
        listen %(port)d;
        listen [::]:%(port)d;
        location / { root /usr/share/nginx/html; index index.html; }
    }
}
"""


def busybox(program: str, users: str = "", groups: str = "") -> Blob:
    """A userland of one program. The applets are hard links: a spec masks /bin/ls, and through a symbolic link
    it would mask them all."""
    layer = Layer()
    layer.program("bin/busybox", program)
    for applet in subprocess.check_output([program, "--list"], text=True).split():
        if applet != "busybox":
            layer.hard_link("bin/" + applet, "bin/busybox")
    for name, mode in FOLDERS.items():
        layer.directory(name, mode)
    layer.symlink("usr/bin/env", "/bin/busybox")
    layer.file("etc/passwd", (PASSWD + users).encode())
    layer.file("etc/group", (GROUP + groups).encode())
    return layer.done()


def compiled(work: str, name: str, path: str, mode: int = 0o755) -> Blob:
    """The static program of NAME.c as the only file of a layer."""
    program = os.path.join(work, name)
    source = os.path.join(HERE, name + ".c")
    subprocess.check_call(["gcc", "-static", "-Os", "-s", "-Wall", "-o", program, source])
    layer = Layer()
    layer.program(path, program, mode)
    return layer.done()


def nginx(work: str, port: int) -> Blob:
    """Debian's nginx with the libraries that it needs, and one page."""
    root = os.path.join(work, "nginx-root")
    if not os.path.isdir(root):
        _unpack_nginx(work, root)
    layer = Layer()
    layer.program("usr/sbin/nginx", os.path.join(root, "usr/sbin/nginx"))
    for library in _libraries(os.path.join(root, "usr/sbin/nginx")):
        layer.program(library, library)
    layer.file("etc/nginx/nginx.conf", (NGINX_CONF % {"port": port}).encode())
    layer.file("usr/share/nginx/html/index.html", b"<html><body>welcome</body></html>\n")
    layer.directory("var/lib/nginx")
    layer.directory("var/log/nginx")
    return layer.done()


def iptables() -> Blob:
    """Debian's iptables for nf_tables under each of its names, with its plugins and the libraries of all of them:
    without libm the plugin for Services with several endpoints is not found."""
    layer = Layer()
    plugins = sorted(glob.glob("/usr/lib/*/xtables/*.so"))
    needed = {library for path in [IPTABLES, *plugins] for library in _libraries(path)}
    for path in [IPTABLES, *sorted(needed)]:
        layer.program(path, path)
    for path in plugins:
        layer.copy(path, path)
    for family in ("iptables", "ip6tables"):
        for action in ("", "-save", "-restore"):
            layer.symlink(f"usr/sbin/{family}{action}", IPTABLES)
    return layer.done()


def _unpack_nginx(work: str, root: str) -> None:
    packages = os.path.join(work, "packages")
    os.makedirs(packages, exist_ok=True)
    download = ["apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", "nginx"]
    subprocess.check_call(download, cwd=packages, stdout=sys.stderr)
    for package in os.listdir(packages):
        subprocess.check_call(["dpkg", "-x", os.path.join(packages, package), root])


def _libraries(program: str) -> list[str]:
    words = subprocess.check_output(["ldd", program], text=True)
    if "not found" in words:
        raise SystemExit(f"libraries of {program} are missing here:\n{words}")
    return sorted({word for word in words.split() if word.startswith("/")})
