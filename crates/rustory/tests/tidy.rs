//! What must stay true of the tree itself: who depends on whom, and documents that do not lie.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|err| panic!("{path}: {err}"))
}

fn dependencies(name: &str) -> BTreeSet<String> {
    let manifest: toml::Table =
        toml::from_str(&read(&format!("crates/{name}/Cargo.toml"))).unwrap();
    let table = manifest
        .get("dependencies")
        .and_then(|table| table.as_table());
    table
        .into_iter()
        .flat_map(|table| table.keys().cloned())
        .collect()
}

#[test]
fn the_pure_crate_depends_on_nothing_that_does_io() {
    let allowed = [
        "base64",
        "bstr",
        "jiff",
        "memchr",
        "minicbor",
        "negentropy",
        "regex-lite",
        "serde",
        "serde_json",
        "thiserror",
        "uuid",
        "xxhash-rust",
        "zstd",
    ];
    let extra: Vec<_> = dependencies("rustory-core")
        .into_iter()
        .filter(|name| !allowed.contains(&name.as_str()))
        .collect();
    assert!(
        extra.is_empty(),
        "new in rustory-core: {extra:?}; does it do I/O?"
    );
}

#[test]
fn store_and_net_never_see_each_other_and_nothing_below_sees_the_command_line() {
    let has = |name: &str, other: &str| dependencies(name).contains(other);
    assert!(!has("rustory-store", "rustory-net"));
    assert!(!has("rustory-net", "rustory-store"));
    assert!(!has("rustory-net", "rusqlite"));
    for name in ["rustory-core", "rustory-store", "rustory-net"] {
        assert!(!has(name, "clap") && !has(name, "rustory"), "{name}");
    }
    assert!(!has("rustory-store", "tokio"));
}

#[test]
fn relative_links_in_documents_lead_somewhere() {
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = link.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let path = document.parent().unwrap().join(target);
            assert!(path.exists(), "{}: {link}", document.display());
        }
    }
}

#[test]
fn nothing_is_left_of_a_merge() {
    let scripts = fs::read_dir(root().join("scripts")).unwrap();
    let mut files: Vec<PathBuf> = scripts.map(|file| file.unwrap().path()).collect();
    files.extend([root().join(".ci/run"), root().join("install.sh")]);
    files.extend(documents());
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        let left = |line: &&str| line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ");
        assert_eq!(text.lines().find(left), None, "{}", file.display());
    }
}

fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let dirs = [
        "",
        "docs",
        "bench",
        "contrib/container",
        "contrib/kubernetes",
        "crates/rustory/shell",
    ];
    for dir in dirs {
        let Ok(listed) = fs::read_dir(root().join(dir)) else {
            continue;
        };
        let paths = listed.filter_map(Result::ok).map(|item| item.path());
        found.extend(paths.filter(|path| path.extension().is_some_and(|ending| ending == "md")));
    }
    assert!(found.len() > 3, "{found:?}");
    found
}

#[test]
fn the_korean_readme_keeps_step_with_the_english_one() {
    let shape = |text: &str| -> Vec<String> {
        let mut in_code = false;
        text.lines()
            .filter_map(|line| {
                if line.starts_with("```") {
                    in_code = !in_code;
                    return Some(line.to_owned());
                }
                let code = line.split('#').next().unwrap_or_default().trim_end();
                match line {
                    // Code is the same but for its comments; headings have the same levels.
                    _ if in_code => Some(code.to_owned()),
                    _ if line.starts_with('#') => Some(line.split(' ').next()?.to_owned()),
                    _ => None,
                }
            })
            .collect()
    };
    assert_eq!(shape(&read("README.md")), shape(&read("README.ko.md")));
}

#[test]
fn all_crates_share_one_version() {
    // One version for all crates, so that `version` in an entry means one thing.
    for name in ["rustory", "rustory-core", "rustory-store", "rustory-net"] {
        let manifest = read(&format!("crates/{name}/Cargo.toml"));
        assert!(manifest.contains("version.workspace = true"), "{name}");
    }
}
