"""What the made-up commands consist of; apart from generate.py, which decides when each is typed.

A `Grammar` makes one command at a time from a function that returns numbers in [0, 1). Nothing here
may bring the letters of the probe words (generate.py) in their order into a command by accident:
so no word list has "quetz" or "mezq", and long lines consist of hexadecimal and of plain words.
"""

PROJECTS = """api-gateway billing webshop infra dotfiles notes rustory compiler-lab ledger search-index
mobile-app data-pipeline auth-service blog kernel-play ml-notebooks thesis homelab payments crawler
geo-tiles chat-server image-proxy scheduler terraform-live design-system docs-site invoice-bot
metrics-agent router-fw""".split()
TOPICS = """login retry cache index parser header config timeout session token upload export invoice
metrics cursor migration schema worker backup health rate-limit render layout theme socket stream
batch ledger digest cleanup signup webhook locale calendar report""".split()
VERBS = """fix add drop rename move speed-up test document revert bump split merge guard log handle
simplify cover inline extract tune""".split()
DIRS = "src lib tests docs cmd pkg internal scripts deploy charts crates app web migrations tools".split()
STEMS = """main mod server client config parser store index handler routes model util render schema
worker auth cache session stream batch report lexer codec queue bridge""".split()
SUFFIXES = "rs py ts go tsx md yaml toml sh sql json c h css kt".split()
NAMESPACES = "default staging prod monitoring ingress kube-system billing data".split()
DEPLOYMENTS = "api web worker gateway billing search auth crawler metrics redis postgres nginx".split()
HOSTNAMES = "nas build-01 build-02 db-prod-3 bastion edge-fra edge-icn pi4 vps gpu-box jump".split()
PACKAGES = """serde tokio clap anyhow requests numpy pandas react vite eslint pytest ripgrep htop jo
curl tmux neovim fzf bat black ruff mypy rayon tracing regex""".split()
IMAGES = "postgres:16 redis:7 nginx:alpine debian:bookworm python:3.12-slim rust:1.85 node:22 busybox".split()
HANGUL = """배포 로그 확인 수정 설정 파일 정리 회의록 초안 결제 오류 테스트 추가 사진 백업 번역 보고서 월간
사용자 검색 속도 개선 문서 갱신 가계부 여행 일정""".split()
EMOJI = "🚀 🐛 ✨ 🔥 📝 ✅ 🎉 🧹 👩‍💻 🇰🇷".split(" ")
SHORT = """ls|ll|pwd|git status|git st|gs|cd ..|cd -|cd|clear|make|cargo check|cargo test|cargo build|git diff|git pull|git push
git log --oneline|git add -p|git add .|git stash|git stash pop|docker ps|kubectl get pods|htop|exit|fg|jobs|vim|ls -la|ls -al
make test|npm run dev|npm test|python3|history|git commit|git commit --amend|git fetch --all --prune|df -h|free -h|top|date|tmux a
cargo clippy|cargo fmt|cargo run|docker compose up -d|docker compose down|git branch|git checkout main|git checkout -|git rebase main
uptime|whoami|ip a|ss -tlnp|source .venv/bin/activate|pytest|pytest -x|go test ./...|go build ./...|terraform plan|k9s""".replace("\n", "|").split("|")


def directories(chance):
    """Some hundreds of directories, the busiest first."""
    found = ["/home/me"]
    for project in PROJECTS:
        found += [f"/home/me/work/{project}", f"/home/me/work/{project}/src"]
    for project in PROJECTS:
        for _ in range(10):
            below = "/".join(DIRS[int(chance() * len(DIRS))] for _ in range(1 + int(chance() * 3)))
            found.append(f"/home/me/work/{project}/{below}")
    found += ["/etc/nginx", "/var/log", "/tmp", "/home/me/문서/회의록", "/home/me/Downloads", "/srv/backup"]
    return list(dict.fromkeys(found))


class Grammar:
    """Makes commands. `weighted` lists what is made how often."""

    def __init__(self, chance):
        self.chance = chance
        self.weighted = []
        for weight, make in (
            (18, self.git), (8, self.cargo), (9, self.kubectl), (7, self.docker), (7, self.ssh),
            (10, self.edit), (9, self.cd), (9, self.grep), (4, self.make), (5, self.python),
            (6, self.curl), (5, self.files), (3, self.npm), (2, self.system), (2, self.pipe),
        ):  # fmt: skip
            self.weighted += [make] * weight
        self.short = list(SHORT)

    def command(self):
        """A command; the short ones that everybody types come first, each once."""
        if self.short and self.chance() < 0.3:
            return self.short.pop(int(self.chance() * min(8, len(self.short))))
        rare = self.chance()
        if rare < 0.014:
            return self.multi_line()
        if rare < 0.024:
            return self.hangul()
        if rare < 0.028:
            return f'git commit -m "{self.pick(EMOJI)} {self.message()}"'
        if rare < 0.0287:
            return self.long(1024 + int(self.chance() ** 2 * 7168))
        if rare < 0.02872:
            return self.long(65536 - int(self.chance() * 500))
        return self.pick(self.weighted)()

    def specimens(self):
        """One of each unusual thing: multi-line, Hangul, emoji, tabs, quotes, long lines."""
        return [
            "cat > notes.md <<'EOF'\n# 회의록\n\n\tdone: \"yes\"\n  # not a comment\n\nEOF",
            'for f in *.log; do\n\tgzip -9 "$f"\ndone',
            "docker run --rm \\\n  -v \"$PWD\":/src \\\n  rust:1.85 cargo test",
            "git commit -m '배포 스크립트 수정 🚀'",
            "echo '👩‍💻 and 👨‍👩‍👧 and 🇰🇷'",
            "echo \u1112\u1161\u11ab\u1100\u1173\u11af",  # decomposed, as macOS writes names
            "printf 'a\\tb\\n' | cut -f2\t# a tab before this",
            """echo "it's" 'a "quote"' `date +%F` $'\\x41' \\\\ end""",
            "echo ' two  blanks at the end'  ",
            "-x looks like an option",
            self.long(1024), self.long(8192), self.long(65536),
        ]  # fmt: skip

    def pick(self, list):
        return list[int(self.chance() * len(list))]

    def digits(self, n):
        return str(int(self.chance() * 10**n)).zfill(n)

    def hex(self, n):
        return f"{int(self.chance() * 16**n):0{n}x}" if n <= 12 else self.hex(12) + self.hex(n - 12)

    def path(self):
        parts = [self.pick(DIRS)]
        if self.chance() < 0.35:
            parts.append(self.pick(TOPICS))
        parts.append(f"{self.pick(STEMS)}.{self.pick(SUFFIXES)}")
        return "/".join(parts)

    def message(self):
        return f"{self.pick(VERBS)} {self.pick(TOPICS)} {self.pick(('in', 'for', 'of'))} {self.pick(STEMS)}"

    def branch(self):
        return f"{self.pick(('fix', 'feat', 'chore'))}/{self.pick(TOPICS)}-{self.digits(3)}"

    def git(self):
        return (
            lambda: f'git commit -m "{self.message()}"',
            lambda: f'git commit -am "{self.message()}"',
            lambda: f"git checkout -b {self.branch()}",
            lambda: f"git checkout {self.branch()}",
            lambda: f"git add {self.path()}",
            lambda: f"git diff {self.path()}",
            lambda: f"git show {self.hex(7)}",
            lambda: f"git rebase -i HEAD~{1 + int(self.chance() * 30)}",
            lambda: f"git log -p --follow -- {self.path()}",
            lambda: f"git push -u origin {self.branch()}",
            lambda: f"git cherry-pick {self.hex(7)}",
            lambda: f"git blame -L {self.digits(2)},+20 {self.path()}",
        )[int(self.chance() * 12)]()

    def cargo(self):
        return (
            lambda: f"cargo test -p {self.pick(PROJECTS)} {self.pick(TOPICS)}",
            lambda: f"cargo test {self.pick(TOPICS)}_{self.pick(STEMS)} -- --nocapture",
            lambda: f"cargo add {self.pick(PACKAGES)}@{self.digits(1)}.{self.digits(2)}",
            lambda: f"cargo run --release -- --{self.pick(TOPICS)} {self.digits(4)}",
            lambda: f"RUST_LOG={self.pick(STEMS)}=debug cargo run -p {self.pick(PROJECTS)}",
        )[int(self.chance() * 5)]()

    def kubectl(self):
        space, name = self.pick(NAMESPACES), self.pick(DEPLOYMENTS)
        pod = f"{name}-{self.hex(9)}-{self.hex(5)}"
        return (
            lambda: f"kubectl -n {space} logs -f {pod}",
            lambda: f"kubectl -n {space} describe pod {pod}",
            lambda: f"kubectl -n {space} exec -it {pod} -- sh",
            lambda: f"kubectl -n {space} rollout restart deploy/{name}",
            lambda: f"kubectl -n {space} get pods -l app={name} -o wide",
            lambda: f"kubectl -n {space} port-forward svc/{name} {self.digits(4)}:80",
        )[int(self.chance() * 6)]()

    def docker(self):
        return (
            lambda: f"docker logs -f --tail {self.digits(3)} {self.pick(DEPLOYMENTS)}",
            lambda: f"docker exec -it {self.hex(12)} bash",
            lambda: f"docker run --rm -it -p {self.digits(4)}:80 {self.pick(IMAGES)}",
            lambda: f"docker build -t {self.pick(PROJECTS)}:{self.hex(7)} .",
            lambda: f"docker rm -f {self.hex(12)}",
        )[int(self.chance() * 5)]()

    def ssh(self):
        host = self.pick(HOSTNAMES)
        return (
            lambda: f"ssh {host}",
            lambda: f"ssh -p {self.digits(4)} me@10.0.{self.digits(2)}.{self.digits(2)}",
            lambda: f"ssh {host} 'journalctl -u {self.pick(DEPLOYMENTS)} -n {self.digits(3)}'",
            lambda: f"scp {self.path()} {host}:/srv/{self.pick(PROJECTS)}/",
            lambda: f"rsync -av --delete {self.pick(PROJECTS)}/ {host}:/srv/backup/{self.digits(4)}/",
        )[int(self.chance() * 5)]()

    def edit(self):
        editor = self.pick(("vim", "vim", "nvim", "code", "less"))
        if self.chance() < 0.3:
            return f"{editor} +{self.digits(3)} {self.path()}"
        return f"{editor} ~/work/{self.pick(PROJECTS)}/{self.path()}"

    def cd(self):
        below = f"/{self.pick(DIRS)}" if self.chance() < 0.7 else ""
        return f"cd ~/work/{self.pick(PROJECTS)}{below}/{self.pick(TOPICS)}"

    def grep(self):
        name = f"{self.pick(TOPICS)}_{self.pick(STEMS)}"
        return (
            lambda: f"grep -rn '{name}' {self.pick(DIRS)}/",
            lambda: f'rg "{self.pick(TOPICS)}.*{self.pick(STEMS)}" -g "*.{self.pick(SUFFIXES)}"',
            lambda: f"rg -l {name} | xargs sed -i 's/{name}/{self.pick(STEMS)}_{self.digits(2)}/g'",
            lambda: f"find . -name '*{self.pick(TOPICS)}*.{self.pick(SUFFIXES)}' -mtime -{self.digits(2)}",
        )[int(self.chance() * 4)]()

    def make(self):
        return f"make -j{1 + int(self.chance() * 16)} {self.pick(TOPICS)}-{self.pick(STEMS)}"

    def python(self):
        return (
            lambda: f"python3 {self.path()} --{self.pick(TOPICS)} {self.digits(3)}",
            lambda: f"python3 -c 'print({self.digits(5)} * {self.digits(2)})'",
            lambda: f"pytest tests/test_{self.pick(STEMS)}.py -k {self.pick(TOPICS)}",
            lambda: f"pip install {self.pick(PACKAGES)}=={self.digits(1)}.{self.digits(2)}.{self.digits(1)}",
        )[int(self.chance() * 4)]()

    def curl(self):
        return (
            lambda: f"curl -s localhost:{self.digits(4)}/{self.pick(TOPICS)} | jq .",
            lambda: f"curl -i -H 'X-Trace: {self.hex(8)}' http://{self.pick(DEPLOYMENTS)}.local/v1/{self.pick(TOPICS)}",
            lambda: f"""curl -XPOST -d '{{"id": {self.digits(5)}}}' localhost:8080/{self.pick(TOPICS)}""",
        )[int(self.chance() * 3)]()

    def files(self):
        return (
            lambda: f"cp {self.path()} /tmp/{self.pick(STEMS)}.{self.digits(3)}",
            lambda: f"mv {self.path()} {self.path()}",
            lambda: f"rm -rf /tmp/{self.pick(PROJECTS)}-{self.hex(6)}",
            lambda: f"tail -f /var/log/{self.pick(DEPLOYMENTS)}/{self.pick(STEMS)}.log",
            lambda: f"tar czf /srv/backup/{self.pick(PROJECTS)}-2025{self.digits(4)}.tgz {self.pick(DIRS)}",
            lambda: f"mkdir -p {self.pick(DIRS)}/{self.pick(TOPICS)}/{self.pick(STEMS)}",
        )[int(self.chance() * 6)]()

    def npm(self):
        return f"npm {self.pick(('install', 'run', 'why'))} {self.pick(PACKAGES)}-{self.pick(TOPICS)}"

    def system(self):
        return f"sudo systemctl {self.pick(('restart', 'status', 'stop'))} {self.pick(DEPLOYMENTS)}@{self.digits(2)}"

    def pipe(self):
        return f"cat {self.path()} | sort | uniq -c | sort -rn | head -{self.digits(2)}"

    def hangul(self):
        text = " ".join(self.pick(HANGUL) for _ in range(1 + int(self.chance() * 4)))
        return (
            lambda: f'git commit -m "{text}"',
            lambda: f"vim ~/문서/{text.replace(' ', '_')}_{self.digits(2)}.md",
            lambda: f"grep -rn '{text}' {self.pick(DIRS)}/",
            lambda: f"echo '{text} {self.digits(3)}' >> 할일.txt",
        )[int(self.chance() * 4)]()

    def multi_line(self):
        return (
            lambda: f"for n in {self.digits(2)} {self.digits(2)} {self.digits(2)}; do\n  ssh {self.pick(HOSTNAMES)} "
            f"{self.pick(DEPLOYMENTS)}ctl $n\ndone",
            lambda: f"cat > {self.path()} <<'EOF'\n{self.pick(TOPICS)}: {self.digits(4)}\n\t{self.pick(STEMS)}: "
            f"\"{self.message()}\"\nEOF",
            lambda: f"docker run --rm \\\n  -e {self.pick(TOPICS).upper()}={self.digits(3)} \\\n  {self.pick(IMAGES)}",
            lambda: f'git commit -m "{self.message()}\n\n{self.message()}, {self.message()}."',
            lambda: f"while sleep {self.digits(2)}\ndo\n\tcurl -s {self.pick(HOSTNAMES)}:{self.digits(4)}/health\ndone",
        )[int(self.chance() * 5)]()

    def long(self, length):
        """One line of exactly `length` bytes."""
        start = f"curl -s -XPUT localhost:9200/{self.pick(TOPICS)} -d '{{\"data\": \""
        end = "\"}'"
        room = length - len(start) - len(end)
        body = []
        while room > 0:
            part = self.hex(min(room, 60)) if self.chance() < 0.8 else f" {self.pick(DEPLOYMENTS)} "
            part = part[:room]
            body.append(part)
            room -= len(part)
        return start + "".join(body) + end
