"""A process node: what a kubelet, a scheduler and a service proxy do, with local processes on loopback addresses.

Development equipment for the playground. `agent` holds the parts together; `pod` and `container` run processes;
`namespace` gives each its own view of the file system; `proxy` stands behind the Services' addresses.
"""
