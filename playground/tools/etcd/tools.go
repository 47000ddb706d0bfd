//go:build tools

// Package tools pins what this module builds.
package tools

import (
	_ "go.etcd.io/etcd/server/v3"
)
