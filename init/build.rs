//! Links init by the runtime's script, without the C library, and refuses a manifest that is not sound: above all one in
//! which somebody calls, or has a channel to, a component that does not come before it.

#[path = "src/manifest/mod.rs"]
#[expect(dead_code, reason = "only the reader is used here; init uses what it reads")]
mod manifest;

fn main() {
    println!("cargo:rerun-if-changed=manifest");
    println!("cargo:rerun-if-changed=src/manifest");
    if let Err(complaint) = manifest::Manifest::parse(manifest::BUILT_IN) {
        println!("cargo::error=init/manifest: {complaint}");
    }
    link();
}

fn link() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../libipc/rt/user.ld");
    println!("cargo:rerun-if-changed={script}");
    for argument in ["-nostdlib", "-nostartfiles", "-static", "-no-pie"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rustc-link-arg-bins=-T{script}");
    println!(
        "cargo:rustc-link-arg-bins=-Wl,--build-id=none,--gc-sections,-z,max-page-size=0x1000,-z,noexecstack"
    );
}
