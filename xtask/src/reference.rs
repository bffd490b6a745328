//! docs/kernel.md: the reference of the kernel's interface, written from its table.

use anyhow::Context;

use crate::workspace;

/// The page as it should be.
pub fn page() -> String {
    let mut page = String::new();
    // Writing to a String does not fail.
    let _ = abi::reference::write(&mut page);
    page.trim_end().to_owned() + "\n"
}

/// Writes the page.
pub fn write() -> anyhow::Result<u8> {
    let path = workspace::root().join("docs").join("kernel.md");
    std::fs::write(&path, page()).with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {}", path.display());
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_page_is_what_the_table_says() {
        let written = std::fs::read_to_string(workspace::root().join("docs").join("kernel.md"));
        assert_eq!(written.unwrap_or_default(), page(), "run `cargo run -- reference`");
    }
}
