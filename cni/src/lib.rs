//! The client side of the Container Network Interface: it knows plugins and networks, no pods.
