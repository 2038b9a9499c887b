//! Idem side by side with other systems.
