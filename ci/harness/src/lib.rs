//! QEMU clusters: machines, virtual switch, namespaces, faults, captures, log decoding.
