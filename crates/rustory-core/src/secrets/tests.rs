//! For each form what is masked, and what only looks like it.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::forms::FORMS;
use super::{MASK, mask, names};

/// Form, a command with such a secret, the command as it is stored.
///
/// `{20}` stands for so many letters and digits, `{#40}` for hexadecimal digits, so that no file
/// here holds anything that scanners of others take for a secret.
const HITS: &[(&str, &str, &str)] = &[
    (
        "AWS access key id",
        "aws --key AKIA{^16} s3 ls",
        "aws --key AKIA* s3 ls",
    ),
    (
        "AWS secret access key",
        "aws configure set aws_secret_access_key {40}",
        "aws configure set aws_secret_access_key *",
    ),
    (
        "Google API key",
        "curl 'https://maps.example/?k=AIza{35}&x=1'",
        "curl 'https://maps.example/?k=AIza*&x=1'",
    ),
    ("Google OAuth token", "gcurl ya29.{60} x", "gcurl ya29.* x"),
    (
        "Azure client secret",
        "az x --s aB38Q~{34} y",
        "az x --s * y",
    ),
    ("Azure key", "func {52}JQQJ99{26} up", "func * up"),
    (
        "Azure shared access signature",
        "azcopy cp f 'https://x.blob.core.windows.net/c?sv=1&sig={40}%3D&se=2'",
        "azcopy cp f 'https://x.blob.core.windows.net/c?sv=1&sig=*&se=2'",
    ),
    (
        "DigitalOcean token",
        "doctl -t dop_v1_{#64}",
        "doctl -t dop_v1_*",
    ),
    (
        "Cloudflare tunnel token",
        "cloudflared service install eyJhIjoi{120}",
        "cloudflared service install eyJhIjoi*",
    ),
    ("Heroku key", "echo HRKU-{40}", "echo HRKU-*"),
    ("Fly.io token", "fly -t fm2_{80} x", "fly -t fm2_* x"),
    ("Databricks token", "db dapi{#32}", "db dapi*"),
    ("Supabase key", "supabase sbp_{#40}", "supabase sbp_*"),
    (
        "PlanetScale token",
        "pscale pscale_tkn_{43}",
        "pscale pscale_tkn_*",
    ),
    ("Netlify token", "netlify nfp_{36}", "netlify nfp_*"),
    (
        "Tailscale key",
        "sudo tailscale up tskey-auth-{17}-{32}",
        "sudo tailscale up tskey-*",
    ),
    (
        "GitHub token",
        "git clone https://ghp_{36}@github.com/me/x",
        "git clone https://ghp_*@github.com/me/x",
    ),
    (
        "GitHub fine-grained token",
        "gh x github_pat_{22}_{59}",
        "gh x github_pat_*",
    ),
    ("GitLab token", "glab x 'glpat-{20}'", "glab x 'glpat-*'"),
    (
        "Atlassian token",
        "acli ATATT3{100}=ABCD1234",
        "acli ATATT3*",
    ),
    ("Bitbucket app password", "bb ATBB{32}", "bb ATBB*"),
    (
        "npm token",
        "npm set //r/:_auth npm_{36}",
        "npm set //r/:_auth npm_*",
    ),
    (
        "PyPI token",
        "twine x pypi-AgEIcHlwaS5vcmc{120}",
        "twine x pypi-AgE*",
    ),
    ("RubyGems key", "gem x rubygems_{#48}", "gem x rubygems_*"),
    ("Docker Hub token", "x dckr_pat_{27} y", "x dckr_pat_* y"),
    ("Artifactory key", "jf x AKCp{69}", "jf x AKCp*"),
    (
        "Slack token",
        "slack xoxb-123456789012-{24}",
        "slack xoxb-*",
    ),
    (
        "Slack webhook",
        "curl -d x https://hooks.slack.com/services/T{8}/B{8}/{24}",
        "curl -d x https://hooks.slack.com/services/*",
    ),
    ("Discord bot token", "bot MTIz{22}.Gab1_d.{38}", "bot *"),
    (
        "Discord webhook",
        "curl https://discord.com/api/webhooks/123456789012345678/{68}?wait=true",
        "curl https://discord.com/api/webhooks/123456789012345678/*?wait=true",
    ),
    (
        "Telegram bot token",
        "curl https://api.telegram.org/bot123456789:AA{33}/getMe",
        "curl https://api.telegram.org/bot123456789:AA*/getMe",
    ),
    (
        "Teams webhook",
        "curl https://x.webhook.office.com/webhookb2/{36}@{36}/IncomingWebhook/{32}",
        "curl https://x.webhook.office.com/webhookb2/*",
    ),
    (
        "Stripe key",
        "stripe -k sk_live_{24} get",
        "stripe -k sk_live_* get",
    ),
    ("Stripe webhook secret", "x whsec_{32}", "x whsec_*"),
    ("Square token", "x sq0atp-{22}", "x sq0atp-*"),
    ("Shopify token", "x shpat_{#32}", "x shpat_*"),
    (
        "OpenAI or Anthropic key",
        "ai sk-ant-api03-{80}-AA",
        "ai sk-*",
    ),
    ("OpenAI or Anthropic key", "ai sk-{#32}", "ai sk-*"),
    (
        "Hugging Face token",
        "hf auth login hf_{34}",
        "hf auth login hf_*",
    ),
    ("Groq key", "x gsk_{52}", "x gsk_*"),
    ("xAI key", "x xai-{80}", "x xai-*"),
    ("Replicate token", "x r8_{37}", "x r8_*"),
    ("Perplexity key", "x pplx-{48}", "x pplx-*"),
    ("SendGrid key", "x SG.{22}.{43}", "x SG.*"),
    ("Vault token", "x hvs.{90}", "x hvs.*"),
    (
        "Terraform Cloud token",
        "x {14}.atlasv1.{67}",
        "x {14}.atlasv1.*",
    ),
    ("Doppler token", "x dp.st.dev.{43}", "x dp.st.*"),
    ("Pulumi token", "x pul-{#40}", "x pul-*"),
    ("Linear key", "x lin_api_{40}", "x lin_api_*"),
    ("Notion secret", "x secret_{43}", "x secret_*"),
    ("Grafana token", "x glsa_{32}_{#8}", "x glsa_*"),
    ("Postman key", "x PMAK-{#24}-{#34}", "x PMAK-*"),
    ("New Relic key", "x NRAK-{^27}", "x NRAK-*"),
    ("Sentry token", "x sntrys_{120}", "x sntrys_*"),
    ("Figma token", "x figd_{40}", "x figd_*"),
    (
        "private key",
        "cat >k <<X\n-----BEGIN OPENSSH PRIVATE KEY-----\n{64}\n{40}==\n-----END OPENSSH PRIVATE KEY-----\nX",
        "cat >k <<X\n-----BEGIN OPENSSH PRIVATE KEY-----\n*\n-----END OPENSSH PRIVATE KEY-----\nX",
    ),
    (
        "private key",
        r#"echo '{"k":"-----BEGIN PRIVATE KEY-----\n{64}\n-----END PRIVATE KEY-----\n"}'"#,
        r#"echo '{"k":"-----BEGIN PRIVATE KEY-----\n*\n-----END PRIVATE KEY-----\n"}'"#,
    ),
    (
        "private key",
        "printf '-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{64}' | gpg --import",
        "printf '-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n*' | gpg --import",
    ),
    (
        "private key",
        "K=-----BEGIN RSA PRIVATE KEY-----\n{64}",
        "K=-----BEGIN RSA PRIVATE KEY-----\n*",
    ),
    ("age key", "x AGE-SECRET-KEY-1{^58}", "x AGE-SECRET-KEY-1*"),
    (
        "swarm key",
        "printf '/key/swarm/psk/1.0.0/\n/base16/\n{#64}\n' >swarm.key",
        "printf '/key/swarm/psk/1.0.0/\n/base16/\n*\n' >swarm.key",
    ),
    (
        "pairing code",
        "echo RR04{180} | ssh desk",
        "echo RR04* | ssh desk",
    ),
    (
        "JSON web token",
        "jwt decode eyJ{30}.eyJ{60}.{43} -j",
        "jwt decode eyJ* -j",
    ),
    (
        "bearer token",
        "grpcurl -H 'auth: Bearer {24}' x",
        "grpcurl -H 'auth: Bearer *' x",
    ),
    (
        "password in a URL",
        "psql postgres://me:pa55@db:5432/x",
        "psql postgres://me:*@db:5432/x",
    ),
    (
        "password in a URL",
        "psql 'postgres://me:p@ss:w0rd@db/x'",
        "psql 'postgres://me:*@db/x'",
    ),
    (
        "password in a URL",
        "curl -x socks5h://:pw1@proxy:1080 a",
        "curl -x socks5h://:*@proxy:1080 a",
    ),
    (
        "password in a Go DSN",
        "migrate -d 'me:pa55@tcp(db:3306)/x'",
        "migrate -d 'me:*@tcp(db:3306)/x'",
    ),
    (
        "Authorization or Cookie header",
        "curl -H 'Authorization: Bearer short' https://x",
        "curl -H 'Authorization: Bearer *' https://x",
    ),
    (
        "Authorization or Cookie header",
        "curl -H \"authorization: token abc\" -H 'cookie: a=b; c=d' x",
        "curl -H \"authorization: token *\" -H 'cookie: *' x",
    ),
    (
        "Authorization or Cookie header",
        "curl -H 'Authorization: abc' x",
        "curl -H 'Authorization: *' x",
    ),
    (
        "Authorization or Cookie header",
        "http x Authorization:\"Bearer abc\" Cookie:a=b",
        "http x Authorization:\"Bearer *\" Cookie:*",
    ),
    (
        "Authorization or Cookie header",
        "curl -d \"{\\\"Authorization\\\": \\\"Basic YTpi\\\"}\" x",
        "curl -d \"{\\\"Authorization\\\": \\\"Basic *\\\"}\" x",
    ),
    (
        "Authorization or Cookie header",
        "nc x 80 <<X\nGET / HTTP/1.1\nAuthorization: Basic YTpi\n\nX",
        "nc x 80 <<X\nGET / HTTP/1.1\nAuthorization: Basic *\n\nX",
    ),
    (
        "value of a telling name",
        "PGPASSWORD=x psql -h db",
        "PGPASSWORD=* psql -h db",
    ),
    (
        "value of a telling name",
        "export GH_TOKEN='a b' X=1",
        "export GH_TOKEN='*' X=1",
    ),
    (
        "value of a telling name",
        "MYSQL_PWD=a\\ b mysql",
        "MYSQL_PWD=* mysql",
    ),
    (
        "value of a telling name",
        "DB_PASS='it'\\''s' ./x",
        "DB_PASS='*' ./x",
    ),
    (
        "value of a telling name",
        "A_SECRET=ab\"c d\"e; ls",
        "A_SECRET=*; ls",
    ),
    (
        "value of a telling name",
        "set -gx FOO_TOKEN abc; ls",
        "set -gx FOO_TOKEN *; ls",
    ),
    (
        "value of a telling name",
        "setenv FOO_SECRET abc",
        "setenv FOO_SECRET *",
    ),
    (
        "value of a telling name",
        "docker run -e API_KEY=abc -e X=1 img",
        "docker run -e API_KEY=* -e X=1 img",
    ),
    (
        "value of a telling name",
        "x --password abc --user me",
        "x --password * --user me",
    ),
    (
        "value of a telling name",
        "x --db-password=abc --user me",
        "x --db-password=* --user me",
    ),
    (
        "value of a telling name",
        "x --token \\\n  abc \\\n  --user me",
        "x --token \\\n  * \\\n  --user me",
    ),
    (
        "value of a telling name",
        "x -Dspring.dbPassword=abc y",
        "x -Dspring.dbPassword=* y",
    ),
    (
        "value of a telling name",
        "kubectl create secret generic x --from-literal=token=abc",
        "kubectl create secret generic x --from-literal=token=*",
    ),
    (
        "value of a telling name",
        "curl 'https://x/?access_token=abc&page=2'",
        "curl 'https://x/?access_token=*&page=2'",
    ),
    (
        "value of a telling name",
        "mount -o password=abc,user=me //x /y",
        "mount -o password=*,user=me //x /y",
    ),
    (
        "value of a telling name",
        "curl -d '{\"user\":\"me\",\"password\": \"a b\"}' x",
        "curl -d '{\"user\":\"me\",\"password\": \"*\"}' x",
    ),
    (
        "value of a telling name",
        "curl -d \"{\\\"password\\\":\\\"abc\\\"}\" x",
        "curl -d \"{\\\"password\\\":\\\"*\\\"}\" x",
    ),
    (
        "value of a telling name",
        "curl -H 'X-Api-Key: abc' -H \"PRIVATE-TOKEN: abc\" x",
        "curl -H 'X-Api-Key: *' -H \"PRIVATE-TOKEN: *\" x",
    ),
    (
        "value of a telling name",
        "kubectl apply -f - <<X\nstringData:\n  password: abc\nX",
        "kubectl apply -f - <<X\nstringData:\n  password: *\nX",
    ),
    (
        "value of a telling name",
        "cat >.my.cnf <<X\n[client]\npassword = abc\nX",
        "cat >.my.cnf <<X\n[client]\npassword = *\nX",
    ),
    (
        "value of a telling name",
        "python3 -c 'login(password = \"abc\")'",
        "python3 -c 'login(password = \"*\")'",
    ),
    (
        "value of a telling name",
        "npm config set //r.example/:_authToken=abc",
        "npm config set //r.example/:_authToken=*",
    ),
    (
        "value of a telling name",
        "x --password '$ecret'",
        "x --password '*'",
    ),
    (
        "value of a telling name",
        "sh -c 'TOKEN=abc x' && echo 'done'",
        "sh -c 'TOKEN=* x' && echo 'done'",
    ),
    (
        "value of a telling name",
        "x --password 비밀번호 y",
        "x --password * y",
    ),
    (
        "openssl password",
        "openssl rsa -passin pass:abc -in k",
        "openssl rsa -passin pass:* -in k",
    ),
    (
        "password fed to a program",
        "echo abc | docker login -u me --password-stdin",
        "echo * | docker login -u me --password-stdin",
    ),
    (
        "password fed to a program",
        "cd /; echo -n 'a b' | sudo -S ls",
        "cd /; echo -n '*' | sudo -S ls",
    ),
    (
        "password fed to a program",
        "printf '%s\\n' abc | sudo -S ls",
        "printf '%s\\n' * | sudo -S ls",
    ),
    (
        "password fed to a program",
        "sudo -S ls <<< abc",
        "sudo -S ls <<< *",
    ),
    (
        "password fed to a program",
        "echo 'root:abc' | chpasswd",
        "echo '*' | chpasswd",
    ),
    (
        "mysql -p",
        "mysql -uroot -pabc db <dump.sql",
        "mysql -uroot -p* db <dump.sql",
    ),
    (
        "mysql -p",
        "ssh h \"mysqldump -u me -p'a b' db\" >x",
        "ssh h \"mysqldump -u me -p'*' db\" >x",
    ),
    (
        "mysql -p",
        "docker exec db mysql <x.sql -p\"!b c\" db",
        "docker exec db mysql <x.sql -p\"*\" db",
    ),
    (
        "sshpass -p",
        "sshpass -p abc ssh h; sshpass -pabc ssh -p 22 h",
        "sshpass -p * ssh h; sshpass -p* ssh -p 22 h",
    ),
    (
        "curl -u",
        "curl -sSu me:abc https://x",
        "curl -sSu me:* https://x",
    ),
    (
        "curl -u",
        "/usr/bin/curl --user \"$USER:abc\" -b 'session=ab1' x",
        "/usr/bin/curl --user \"$USER:*\" -b 'session=*' x",
    ),
    ("httpie -a", "http -a me:abc POST x", "http -a me:* POST x"),
    (
        "login -p",
        "docker login -u me -p abc reg",
        "docker login -u me -p * reg",
    ),
    (
        "skopeo --creds",
        "skopeo copy --src-creds=me:abc docker://a dir:b",
        "skopeo copy --src-creds=me:* docker://a dir:b",
    ),
    ("login TOKEN", "cargo login abc1", "cargo login *"),
    (
        "ngrok authtoken",
        "ngrok config add-authtoken abc",
        "ngrok config add-authtoken *",
    ),
    ("rr join", "rr join {120}", "rr join *"),
    (
        "redis-cli -a",
        "redis-cli -h x -a abc ping",
        "redis-cli -h x -a * ping",
    ),
    (
        "mongosh -p",
        "mongosh -u me -p abc db",
        "mongosh -u me -p * db",
    ),
    (
        "ldapsearch -w",
        "ldapsearch -D cn=x -w abc",
        "ldapsearch -D cn=x -w *",
    ),
    (
        "sqlcmd -P",
        "sqlcmd -S h -U sa -P abc -Q x",
        "sqlcmd -S h -U sa -P * -Q x",
    ),
    (
        "smbclient -U",
        "smbclient -U me%abc //h/s",
        "smbclient -U me%* //h/s",
    ),
    ("lftp -u", "lftp -u me,abc ftp.x", "lftp -u me,* ftp.x"),
    (
        "ssh-keygen -N",
        "ssh-keygen -t ed25519 -N abc -f k",
        "ssh-keygen -t ed25519 -N * -f k",
    ),
    ("useradd -p", "useradd -m -p abc me", "useradd -m -p * me"),
    (
        "nmcli password",
        "nmcli dev wifi connect Home password abc",
        "nmcli dev wifi connect Home password *",
    ),
    (
        "xfreerdp /p:",
        "xfreerdp /u:me /p:abc /v:h",
        "xfreerdp /u:me /p:* /v:h",
    ),
];

/// Form, and a command that comes near it without holding a secret.
const NEAR_MISSES: &[(&str, &str)] = &[
    ("AWS access key id", "echo AKIA{^15} AKIA{^17} xAKIA{^16}"),
    (
        "AWS secret access key",
        "aws configure get aws_secret_access_key --profile x",
    ),
    ("Google API key", "echo AIza{20} 'AIza'"),
    ("Google OAuth token", "echo ya29.short"),
    ("Azure client secret", "echo aB38Q~short"),
    ("Azure key", "echo {10}JQQJ99{26}"),
    (
        "Azure shared access signature",
        "curl 'x?sig=short' --sig={40}",
    ),
    ("DigitalOcean token", "echo dop_v1_{#40}"),
    ("Cloudflare tunnel token", "echo eyJhIjoi{20}"),
    ("Heroku key", "echo HRKU-12"),
    ("Fly.io token", "vim fm2_notes.txt"),
    ("Databricks token", "cd dapi; dapi{#8}"),
    ("Supabase key", "echo sbp_{#8}"),
    ("PlanetScale token", "echo pscale_tkn_x"),
    ("Netlify token", "echo nfp_x"),
    ("Tailscale key", "echo tskey-auth"),
    ("GitHub token", "grep -r ghp_ . ; echo xghp_{36} ghp_{12}"),
    ("GitHub fine-grained token", "echo github_pat_x"),
    ("GitLab token", "grep glpat- x; ls glrt-notes"),
    ("Atlassian token", "echo ATATT3{12}"),
    ("Bitbucket app password", "echo ATBB{12}"),
    ("npm token", "npm_config_registry=x npm i; echo npm_{12}"),
    ("PyPI token", "pip install pypi-AgEnt"),
    ("RubyGems key", "echo rubygems_{#8}"),
    ("Docker Hub token", "echo dckr_pat_x"),
    ("Artifactory key", "echo AKCp{12}"),
    ("Slack token", "grep xoxb- x"),
    ("Slack webhook", "curl https://hooks.slack.com/services/"),
    ("Discord bot token", "cat MTIz.{6}.txt; echo {26}.{6}.{38}"),
    ("Discord webhook", "curl https://x/api/webhooks/123/list"),
    ("Telegram bot token", "echo 12:AA{33} 123456789:AAshort"),
    (
        "Teams webhook",
        "curl https://x.webhook.office.com/webhookb2/x",
    ),
    ("Stripe key", "echo sk_live_x pk_live_{24}"),
    ("Stripe webhook secret", "echo whsec_x"),
    ("Square token", "echo sq0atp-x"),
    ("Shopify token", "echo shpat_{#8}"),
    (
        "OpenAI or Anthropic key",
        "git checkout task-sk-learn; pip install sk-learn-contrib-experimental-models",
    ),
    (
        "Hugging Face token",
        "python -c 'hf_hub_download(repo_id_of_something_long)'",
    ),
    ("Groq key", "echo gsk_{12}"),
    ("xAI key", "echo xai-{12}"),
    ("Replicate token", "echo r8_{12}"),
    ("Perplexity key", "echo pplx-{12}"),
    ("SendGrid key", "open SG.md"),
    ("Vault token", "echo hvs.x"),
    ("Terraform Cloud token", "echo x.atlasv1.y"),
    ("Doppler token", "echo dp.st.x"),
    ("Pulumi token", "echo pul-{#8}"),
    ("Linear key", "echo lin_api_x"),
    ("Notion secret", "kubectl get secret_x secret_{12}"),
    ("Grafana token", "echo glsa_x glc_y"),
    ("Postman key", "echo PMAK-x"),
    ("New Relic key", "echo NRAK-x"),
    ("Sentry token", "echo sntrys_x"),
    ("Figma token", "echo figd_x"),
    (
        "private key",
        "grep -r -- '-----BEGIN RSA PRIVATE KEY-----' /home/me/some/long/path/to/search",
    ),
    (
        "private key",
        "sed -n '/-----BEGIN PRIVATE KEY-----/,/-----END PRIVATE KEY-----/p' f",
    ),
    (
        "private key",
        "cat <<X\n-----BEGIN CERTIFICATE-----\n{64}\n-----END CERTIFICATE-----\nX",
    ),
    (
        "private key",
        "cat <<X\n-----BEGIN PUBLIC KEY-----\n{64}\n-----END PUBLIC KEY-----\nX",
    ),
    ("age key", "echo AGE-SECRET-KEY-1"),
    ("swarm key", "grep /key/swarm/psk/1.0.0/ swarm.key"),
    ("pairing code", "echo RR04{40} xRR04{180}"),
    (
        "JSON web token",
        "cat eyJhbGciOiJIUzI1NiJ9.json; echo eyJ{60}",
    ),
    (
        "bearer token",
        "git commit -m 'the bearer token of a session'",
    ),
    (
        "password in a URL",
        "git clone ssh://git@host:22/x.git; curl http://host:8080/@scope/x",
    ),
    (
        "password in a URL",
        "curl https://me:$PW@host/ https://me:${PW}@host/ http://[::1]:80/a@b",
    ),
    ("password in a Go DSN", "echo x@tcp(1) 'me@tcp(db)'"),
    (
        "Authorization or Cookie header",
        "curl -H \"Authorization: Bearer $TOKEN\" -H 'Authorization: Bearer '\"$T\" x",
    ),
    (
        "Authorization or Cookie header",
        "git commit -m 'explain authorization: who may what' && rg cookie: src",
    ),
    (
        "value of a telling name",
        "TOKEN=$(gh auth token) PASSWORD=\"$PW\" X_SECRET=`pass x` ./x",
    ),
    (
        "value of a telling name",
        "compass=1 OLDPWD=/x PWD=/y TOKENS=3 max_tokens=5 token_file=/x ./x",
    ),
    (
        "value of a telling name",
        "x --password-file f --token-url u --no-password db --ask-pass site.yml",
    ),
    (
        "value of a telling name",
        "mysql -u root --password -h x; x --token; x --secret --y; gh auth login --with-token < f",
    ),
    (
        "value of a telling name",
        "x --token /run/secrets/token --secret=./s --api-key ~/.key",
    ),
    (
        "value of a telling name",
        "cat token secret password; kubectl get secret my-token -o yaml; pass show token",
    ),
    (
        "value of a telling name",
        "grep -n 'password=' -r . ; rg \"token=\" src; pip install token==1.0",
    ),
    (
        "value of a telling name",
        "git commit -m 'fix token: do not log it; password: never'",
    ),
    (
        "value of a telling name",
        "docker pull reg/my-token:latest; scp my-secret:/x .",
    ),
    (
        "value of a telling name",
        "[ \"$password\" = \"$x\" ] && x --password=true --token \"<token>\" --secret id=a,src=b",
    ),
    (
        "value of a telling name",
        "x --token op://vault/item/token; gh secret set TOKEN; x --api-key \"{{ key }}\"",
    ),
    (
        "openssl password",
        "openssl rsa -passin env:PW -passout file:x; cat pass:x",
    ),
    (
        "password fed to a program",
        "cat f | docker login --password-stdin; echo $PW | sudo -S ls; echo x | tee y && sudo -S ls",
    ),
    ("mysql -p", "mysql -u root -p db; mysql -P 3306; ps -pabc"),
    (
        "sshpass -p",
        "sshpass -f file ssh -p 22 h; mysshpass -p abc",
    ),
    (
        "curl -u",
        "curl -u me x; curl -u \"me:$PW\" -b jar.txt x; recurl -u a:b",
    ),
    ("httpie -a", "http -a me x; curl http://x:80 -a me:abc"),
    ("login -p", "docker run -p 80:80 x; az group list -p x"),
    ("skopeo --creds", "skopeo copy --src-creds=me x"),
    (
        "login TOKEN",
        "cargo login; cargo login --registry x; vault login -method=oidc",
    ),
    ("ngrok authtoken", "ngrok http 80"),
    ("rr join", "rr list join; carr join x"),
    ("redis-cli -a", "redis-cli -h x ping -a"),
    ("mongosh -p", "mongosh -p --host x; mongosh --port 1"),
    ("ldapsearch -w", "ldapsearch -W -D cn=x"),
    ("sqlcmd -P", "sqlcmd -S h -E; zip -r x.zip x"),
    ("smbclient -U", "smbclient -U me //h/s"),
    ("lftp -u", "lftp -u me ftp.x"),
    (
        "ssh-keygen -N",
        "ssh-keygen -t ed25519 -N '' -f k; ssh-keygen -N \"\"",
    ),
    ("useradd -p", "useradd -m me; adduser -p x"),
    ("nmcli password", "nmcli dev wifi connect Home"),
    ("xfreerdp /p:", "xfreerdp /u:me /v:h"),
];

/// Letters and digits that look random and are the same for every test.
fn filler(len: usize, alphabet: &[u8], seed: u32) -> String {
    let mut state = 0x2545_f491_u32
        .wrapping_add(seed.wrapping_mul(0x9e37_79b9))
        .max(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        char::from(alphabet[state as usize % alphabet.len()])
    };
    (0..len).map(|_| next()).collect()
}

/// Puts [`filler`] in place of `{20}`, `{#20}`, `{^20}` and `{_20}`.
fn filled(text: &str) -> String {
    filled_from(text, 0)
}

fn filled_from(text: &str, seed: u32) -> String {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((head, tail)) = rest.split_once('{') {
        filled += head;
        let inner = tail
            .split_once('}')
            .map(|(inner, _)| inner)
            .unwrap_or_default();
        let digits = inner.trim_start_matches(['#', '^', '_']);
        rest = match digits.parse() {
            Ok(len) => {
                let alphabet: &[u8] = match inner.as_bytes()[0] {
                    b'#' => b"0123456789abcdef",
                    b'^' => b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
                    b'_' => b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_",
                    _ => b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
                };
                filled += &filler(len, alphabet, seed.wrapping_add(filled.len() as u32 * seed));
                &tail[inner.len() + 1..]
            }
            Err(_) => {
                filled.push('{');
                tail
            }
        };
    }
    filled + rest
}

fn masked(text: &str) -> String {
    String::from_utf8(mask(text.as_bytes()).into_owned()).unwrap()
}

#[test]
fn every_form_masks_the_secret_and_leaves_the_rest() {
    let wrong: Vec<String> = HITS
        .iter()
        .map(|(form, cmd, stored)| (form, filled(cmd), filled(stored).replace('*', MASK)))
        .filter(|(_, cmd, stored)| masked(cmd) != *stored)
        .map(|(form, cmd, stored)| {
            format!(
                "{form}:\n  {cmd}\n  gives  {}\n  not    {stored}\n",
                masked(&cmd)
            )
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.concat());
}

#[test]
fn what_only_looks_like_a_secret_is_left_alone() {
    let wrong: Vec<String> = NEAR_MISSES
        .iter()
        .map(|(form, cmd)| (form, filled(cmd)))
        .filter(|(_, cmd)| masked(cmd) != *cmd)
        .map(|(form, cmd)| format!("{form}:\n  {cmd}\n  gives {}\n", masked(&cmd)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.concat());
}

#[test]
fn every_form_has_an_example_and_a_near_miss_and_is_documented() {
    let all: BTreeSet<_> = names().collect();
    assert_eq!(all.len(), FORMS.len(), "two forms have one name");
    let hits: BTreeSet<_> = HITS.iter().map(|(form, ..)| *form).collect();
    let misses: BTreeSet<_> = NEAR_MISSES.iter().map(|(form, _)| *form).collect();
    assert_eq!(hits, all);
    assert_eq!(misses, all);
    let documented = include_str!("../../../../docs/secrets.md");
    let missing: Vec<_> = all
        .iter()
        .filter(|name| !documented.contains(**name))
        .collect();
    assert!(missing.is_empty(), "not in docs/secrets.md: {missing:?}");
}

#[test]
fn marks_can_be_searched_for() {
    for form in FORMS {
        for mark in form.marks {
            assert!(mark.len() >= 3, "{mark:?}");
            assert!(
                !form.any_case || mark.to_ascii_lowercase() == **mark,
                "{mark:?}"
            );
        }
    }
}

/// What histories are full of and scanners for secrets stumble over.
const HARMLESS: &[&str] = &[
    "git show {#40}; git diff {#12}..{#64} -- src/{8}/{_12}.rs",
    "docker pull alpine@sha256:{#64}; docker run --rm -p 8080:80 -e MODE=dev x:{#12}",
    "cd ~/{40}/{36}/{22}; ls /nix/store/{32}-hello-2.12.1",
    "kubectl logs web-{#10}-{5}; kubectl get cm {#8}-{#4}-{#4}-{#4}-{#12} -n prod",
    "echo {64}= | base64 -d; vim {86}==; cat {_43}.{_12}.txt",
    "ssh-copy-id -i ~/.ssh/id_ed25519.pub me@host; ssh -p 2222 -L 8080:{6}:80 me@{8}.example",
    "npm i react@18.2.0; grep sha512-{86}== package-lock.json",
    "curl -sSL https://example.org/{_20}/install.sh?x={40}&id={#32} | sh",
    "sha256sum -c <<< '{#64}  file'; ssh-keygen -lf k; gpg --recv-keys {#40}",
    "aws s3 cp s3://bucket/{32}/{40} . --profile {6}; gcloud config set project x-{6}",
    "mv 'IMG_{20}.jpg' \"{_30}.png\"; passwd; sudo passwd me; secret-tool lookup a b",
    "cat tokenizer.json; python train.py --tokenizer x --max-tokens 5; bat secrets.rs",
    "open https://youtu.be/{_11}; open 'https://docs.example/d/{_44}/edit#gid=0'",
    "MTI{20} NDA{30}; cargo test {12}::{9}; make -j8 V=1 CFLAGS='-O2 -g'",
    "ssh-add -l; ssh-keyscan h >>known; echo 'AAAAC3NzaC1lZDI1NTE5AAAAI{43} me@h' >>~/.ssh/authorized_keys",
    "ipfs cat Qm{44}; bitcoin-cli gettransaction {#64}; cast call 0x{#40} 'f()'",
    "for f in *.{4}; do mv \"$f\" \"${f%.*}.bak\"; done && rg -n 'fn {6}' src",
];

#[test]
fn hashes_ids_paths_and_names_are_left_alone() {
    for seed in 0..3_000 {
        for cmd in HARMLESS {
            let cmd = filled_from(cmd, seed);
            assert_eq!(masked(&cmd), cmd, "seed {seed}");
        }
    }
}

#[test]
fn a_command_without_secrets_is_not_copied() {
    assert!(matches!(mask(b"git status"), std::borrow::Cow::Borrowed(_)));
    assert!(matches!(
        mask(b"TOKEN=[masked] x"),
        std::borrow::Cow::Borrowed(_)
    ));
}

#[test]
fn bytes_that_are_no_text_stay_as_they_are() {
    let cmd = b"\xff\xfe --password \x80abc\xff x\xff";
    assert_eq!(&*mask(cmd), b"\xff\xfe --password [masked] x\xff");
}

/// Pieces of which commands with and without secrets are made, in any order.
fn pieces() -> impl Strategy<Value = String> {
    let examples: Vec<String> = HITS
        .iter()
        .map(|(_, cmd, _)| *cmd)
        .chain(NEAR_MISSES.iter().map(|(_, cmd)| *cmd))
        .map(filled)
        .collect();
    let glue = [
        " ",
        "\n",
        "\"",
        "'",
        "\\",
        "=",
        ":",
        "$",
        "`",
        "|",
        ";",
        "&",
        "<<<",
        "[masked]",
        "{",
        "}",
        ",",
        "@",
        "/",
        "-",
        "--",
        "한글",
        "password",
        "Token",
        "curl -u ",
        "x",
        "://",
        "a:b@",
        "-----BEGIN PRIVATE KEY-----",
        "echo ",
        "| sudo -S",
        "set -x ",
    ];
    prop_oneof![
        1 => proptest::sample::select(examples),
        4 => proptest::sample::select(glue.map(str::to_owned).to_vec()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn masking_is_done_once_and_for_all(parts in prop::collection::vec(pieces(), 1..12)) {
        let once = masked(&parts.concat());
        prop_assert_eq!(masked(&once), once);
    }

    #[test]
    fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let once = mask(&bytes).into_owned();
        prop_assert_eq!(mask(&once).into_owned(), once.clone());
        if let Ok(text) = std::str::from_utf8(&bytes) {
            prop_assert!(std::str::from_utf8(&once).is_ok(), "{:?}", text);
        }
    }
}
