//go:build tools

// Package tools pins what this module builds.
package tools

import (
	_ "code.gitea.io/gitea"
)
