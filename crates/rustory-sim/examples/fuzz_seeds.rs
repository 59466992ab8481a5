//! `fuzz_seeds DIR`: writes the scripts that fuzzing begins with, one a file.
fn main() -> std::io::Result<()> {
    let dir = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "fuzz/corpus/session".to_owned());
    std::fs::create_dir_all(&dir)?;
    for (n, script) in rustory_sim::fuzz::seeds().iter().enumerate() {
        std::fs::write(format!("{dir}/seed-{n:03}"), script)?;
    }
    Ok(())
}
