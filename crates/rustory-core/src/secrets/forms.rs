//! The list of forms: the one place that says what counts as a secret.
//!
//! To add a form, add it here, an example and a near miss in `tests.rs`, and a line in
//! `docs/secrets.md`; tests hold the three together.

use std::ops::Range;

use super::Place;
use super::programs::{Options, Take::*};
use super::tokens::{alnum, base64, base64url, dotted, hex, path, upper, word};
use super::{named, programs, tokens};

/// One way in which secrets stand in commands.
pub(super) struct Form {
    /// As users read it.
    pub(super) name: &'static str,
    /// Texts of at least three bytes, one of which stands wherever the form does.
    pub(super) marks: &'static [&'static str],
    /// Marks are written in lower case and found in any.
    pub(super) any_case: bool,
    find: Find,
}

enum Find {
    /// At least so many bytes of an alphabet follow the mark.
    Token {
        of: fn(u8) -> bool,
        len_min: usize,
    },
    One(fn(Place<'_>) -> Option<Range<usize>>),
    /// Options of the program that the mark names.
    Options(&'static Options),
}

impl Form {
    const fn token(
        name: &'static str,
        marks: &'static [&'static str],
        of: fn(u8) -> bool,
        len_min: usize,
    ) -> Form {
        Form {
            name,
            marks,
            any_case: false,
            find: Find::Token { of, len_min },
        }
    }

    const fn one(
        name: &'static str,
        marks: &'static [&'static str],
        find: fn(Place<'_>) -> Option<Range<usize>>,
    ) -> Form {
        Form {
            name,
            marks,
            any_case: false,
            find: Find::One(find),
        }
    }

    const fn options(
        name: &'static str,
        marks: &'static [&'static str],
        options: &'static Options,
    ) -> Form {
        Form {
            name,
            marks,
            any_case: false,
            find: Find::Options(options),
        }
    }

    const fn in_any_case(self) -> Form {
        Form {
            any_case: true,
            ..self
        }
    }

    pub(super) fn is_at(&self, mark: &str, text: &[u8]) -> bool {
        text.get(..mark.len())
            .is_some_and(|there| match self.any_case {
                true => there.eq_ignore_ascii_case(mark.as_bytes()),
                false => there == mark.as_bytes(),
            })
    }

    /// Adds the secrets that belong to this mark. Returns where the search goes on: nothing before
    /// that is worth another look.
    pub(super) fn find(&self, place: Place<'_>, found: &mut Vec<Range<usize>>) -> usize {
        let one = match self.find {
            Find::Token { of, len_min } => tokens::token(place, of, len_min),
            Find::One(find) => find(place),
            Find::Options(options) => {
                programs::options(place, options, found);
                None
            }
        };
        let Some(secret) = one else {
            return place.start + 1;
        };
        found.push(secret.clone());
        secret.end
    }
}

/// All of them.
pub(super) static FORMS: &[Form] = &[
    // Clouds.
    Form::one(
        "AWS access key id",
        &["AKIA", "ASIA", "ABIA", "ACCA"],
        tokens::aws_key_id,
    ),
    Form::one(
        "AWS secret access key",
        &["secret_access_key", "secret-access-key", "secretaccesskey"],
        tokens::aws_secret,
    )
    .in_any_case(),
    Form::token("Google API key", &["AIza"], base64url, 35),
    Form::token(
        "Google OAuth token",
        &["ya29.", "GOCSPX-", "1//0"],
        base64url,
        24,
    ),
    Form::one(
        "Azure client secret",
        AZURE_SECRET_MARKS,
        tokens::azure_secret,
    ),
    Form::one("Azure key", &["JQQJ99"], tokens::azure_key),
    Form::one(
        "Azure shared access signature",
        &["sig="],
        tokens::azure_signature,
    ),
    Form::token(
        "DigitalOcean token",
        &["dop_v1_", "doo_v1_", "dor_v1_"],
        hex,
        64,
    ),
    Form::token("Cloudflare tunnel token", &["eyJhIjoi"], base64, 100),
    Form::token("Heroku key", &["HRKU-"], base64url, 36),
    Form::token("Fly.io token", &["fm2_"], base64, 50),
    Form::token("Databricks token", &["dapi"], hex, 32),
    Form::token("Supabase key", &["sbp_"], hex, 40),
    Form::token(
        "PlanetScale token",
        &["pscale_tkn_", "pscale_pw_", "pscale_oauth_"],
        base64url,
        32,
    ),
    Form::token("Netlify token", &["nfp_"], alnum, 36),
    Form::token("Tailscale key", &["tskey-"], base64url, 16),
    // Forges and registries.
    Form::token(
        "GitHub token",
        &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"],
        word,
        36,
    ),
    Form::token("GitHub fine-grained token", &["github_pat_"], word, 22),
    Form::token(
        "GitLab token",
        &[
            "glpat-", "gldt-", "glrt-", "glptt-", "glft-", "glsoat-", "glcbt-", "glimt-",
            "glagent-", "gloas-", "glffct-",
        ],
        dotted,
        20,
    ),
    Form::token("Atlassian token", &["ATATT3"], tokens::base64url_padded, 50),
    Form::token("Bitbucket app password", &["ATBB"], alnum, 28),
    Form::token("npm token", &["npm_"], alnum, 36),
    Form::token("PyPI token", &["pypi-AgE"], base64url, 40),
    Form::token("RubyGems key", &["rubygems_"], hex, 48),
    Form::token(
        "Docker Hub token",
        &["dckr_pat_", "dckr_oat_"],
        base64url,
        20,
    ),
    Form::token("Artifactory key", &["AKCp", "cmVmdGtuO"], alnum, 48),
    // Chat.
    Form::token(
        "Slack token",
        &[
            "xoxa-", "xoxb-", "xoxc-", "xoxd-", "xoxe-", "xoxo-", "xoxp-", "xoxr-", "xoxs-",
            "xapp-",
        ],
        tokens::base64url_percent,
        16,
    ),
    Form::token(
        "Slack webhook",
        &[
            "hooks.slack.com/services/",
            "hooks.slack.com/workflows/",
            "hooks.slack.com/triggers/",
        ],
        path,
        20,
    ),
    Form::one("Discord bot token", tokens::DISCORD_MARKS, tokens::discord),
    Form::one(
        "Discord webhook",
        &["/api/webhooks/"],
        tokens::discord_webhook,
    ),
    Form::one("Telegram bot token", &[":AA"], tokens::telegram),
    Form::token(
        "Teams webhook",
        &["webhook.office.com/webhookb2/"],
        path,
        20,
    ),
    // Payment and shops.
    Form::token(
        "Stripe key",
        &["sk_live_", "sk_test_", "rk_live_", "rk_test_"],
        alnum,
        16,
    ),
    Form::token("Stripe webhook secret", &["whsec_"], base64, 16),
    Form::token("Square token", &["sq0atp-", "sq0csp-"], base64url, 22),
    Form::token(
        "Shopify token",
        &["shpat_", "shpca_", "shppa_", "shpss_"],
        hex,
        32,
    ),
    // Models.
    Form::one("OpenAI or Anthropic key", &["sk-"], tokens::sk),
    Form::token("Hugging Face token", &["hf_"], alnum, 30),
    Form::token("Groq key", &["gsk_"], alnum, 40),
    Form::token("xAI key", &["xai-"], alnum, 60),
    Form::token("Replicate token", &["r8_"], alnum, 36),
    Form::token("Perplexity key", &["pplx-"], alnum, 40),
    // Other services.
    Form::token("SendGrid key", &["SG."], dotted, 60),
    Form::token("Vault token", &["hvs.", "hvb.", "hvr."], base64url, 24),
    Form::token("Terraform Cloud token", &[".atlasv1."], alnum, 40),
    Form::token(
        "Doppler token",
        &["dp.pt.", "dp.st.", "dp.ct.", "dp.sa."],
        dotted,
        40,
    ),
    Form::token("Pulumi token", &["pul-"], hex, 40),
    Form::token("Linear key", &["lin_api_", "lin_oauth_"], alnum, 32),
    Form::token("Notion secret", &["ntn_", "secret_"], alnum, 43),
    Form::token("Grafana token", &["glsa_", "glc_"], tokens::base64_word, 32),
    Form::token("Postman key", &["PMAK-"], base64url, 40),
    Form::token("New Relic key", &["NRAK-"], alnum, 27),
    Form::token(
        "Sentry token",
        &["sntrys_", "sntryu_"],
        tokens::base64_word,
        40,
    ),
    Form::token("Figma token", &["figd_"], base64url, 40),
    // Keys and tokens of standards.
    Form::one("private key", &["-----BEGIN "], tokens::private_key),
    Form::token("age key", &["AGE-SECRET-KEY-1"], upper, 50),
    Form::one("swarm key", &["/key/swarm/psk/"], tokens::swarm_key),
    Form::token("pairing code", &["rr04"], alnum, 100).in_any_case(),
    Form::one("JSON web token", &["eyJ"], tokens::json_web_token),
    Form::one("bearer token", &["bearer "], tokens::bearer).in_any_case(),
    // By what stands around them.
    Form::one("password in a URL", &["://"], named::url_password),
    Form::one(
        "password in a Go DSN",
        &["@tcp(", "@unix("],
        named::dsn_password,
    ),
    Form::one(
        "Authorization or Cookie header",
        &["authorization", "cookie"],
        named::header,
    )
    .in_any_case(),
    Form::one("value of a telling name", named::MARKS, named::named).in_any_case(),
    Form::one("openssl password", &["pass:"], programs::openssl_password),
    Form::one(
        "password fed to a program",
        &["-stdin", "sudo -S", "chpasswd"],
        programs::fed,
    ),
    Form::options(
        "mysql -p",
        &[
            "mysql ",
            "mysqldump ",
            "mysqladmin ",
            "mysqlimport ",
            "mysqlshow ",
            "mysqlcheck ",
            "mysqlsh ",
            "mariadb ",
            "mariadb-dump ",
            "mariadb-admin ",
            "mycli ",
            "7z ",
            "7za ",
            "7zz ",
            "rar ",
            "unrar ",
        ],
        &Options::of(&[("-p", Glued)]),
    ),
    Form::options(
        "sshpass -p",
        &["sshpass "],
        &Options::leading(&[("-p", Next)]),
    ),
    Form::options(
        "curl -u",
        &["curl "],
        &Options::of(&[
            ("-u", Behind(b':')),
            ("--user", Behind(b':')),
            ("-U", Behind(b':')),
            ("--proxy-user", Behind(b':')),
            ("-b", Behind(b'=')),
            ("--cookie", Behind(b'=')),
        ]),
    ),
    Form::options(
        "httpie -a",
        &["http ", "https ", "xh ", "xhs "],
        &Options::of(&[
            ("-a", Behind(b':')),
            ("--auth", Behind(b':')),
            ("--bearer", Next),
        ]),
    ),
    Form::options(
        "login -p",
        &[
            "docker ", "podman ", "nerdctl ", "buildah ", "helm ", "oc ", "crane ", "az ", "cf ",
        ],
        &Options::after("login", &[("-p", Next)]),
    ),
    Form::options(
        "skopeo --creds",
        &["skopeo ", "podman ", "buildah "],
        &Options::of(&[
            ("--creds", Behind(b':')),
            ("--src-creds", Behind(b':')),
            ("--dest-creds", Behind(b':')),
        ]),
    ),
    Form::options(
        "login TOKEN",
        &["cargo ", "vault "],
        &Options::of(&[("login", Next)]),
    ),
    Form::options(
        "ngrok authtoken",
        &["ngrok "],
        &Options::of(&[("authtoken", Next), ("add-authtoken", Next)]),
    ),
    Form::options(
        "rr join",
        &["rr ", "rustory "],
        &Options::of(&[("join", Next)]),
    ),
    Form::options(
        "redis-cli -a",
        &["redis-cli ", "valkey-cli "],
        &Options::of(&[("-a", Next)]),
    ),
    Form::options(
        "mongosh -p",
        &[
            "mongo ",
            "mongosh ",
            "mongodump ",
            "mongorestore ",
            "mongoexport ",
            "mongoimport ",
        ],
        &Options::of(&[("-p", Next)]),
    ),
    Form::options(
        "ldapsearch -w",
        &[
            "ldapsearch ",
            "ldapadd ",
            "ldapmodify ",
            "ldapdelete ",
            "ldappasswd ",
            "ldapwhoami ",
        ],
        &Options::of(&[("-w", Next)]),
    ),
    Form::options(
        "sqlcmd -P",
        &["sqlcmd ", "bcp ", "tsql ", "zip ", "unzip ", "ipmitool "],
        &Options::of(&[("-P", Next)]),
    ),
    Form::options(
        "smbclient -U",
        &["smbclient ", "rpcclient ", "smbget "],
        &Options::of(&[("-U", Behind(b'%'))]),
    ),
    Form::options("lftp -u", &["lftp "], &Options::of(&[("-u", Behind(b','))])),
    Form::options(
        "ssh-keygen -N",
        &["ssh-keygen "],
        &Options::of(&[("-N", Next), ("-P", Next)]),
    ),
    Form::options(
        "useradd -p",
        &["useradd ", "usermod "],
        &Options::of(&[("-p", Next)]),
    ),
    Form::options(
        "nmcli password",
        &["nmcli "],
        &Options::of(&[
            ("password", Next),
            ("wifi-sec.psk", Next),
            ("802-11-wireless-security.psk", Next),
        ]),
    ),
    Form::options(
        "xfreerdp /p:",
        &["xfreerdp ", "xfreerdp3 ", "wlfreerdp "],
        &Options::of(&[("/p:", Glued)]),
    ),
];

const AZURE_SECRET_MARKS: &[&str] = &[
    "0Q~", "1Q~", "2Q~", "3Q~", "4Q~", "5Q~", "6Q~", "7Q~", "8Q~", "9Q~",
];
