package guest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// temp is the folder for temporary files. Tools make one with a random name, so nobody can know it beforehand.
func (g *Guest) temp() string {
	if g.windows {
		return `C:\Users\guest\AppData\Local\Temp`
	}
	return filepath.Join(g.folder, "tmp")
}

func (g *Guest) home() string {
	if g.windows {
		return `C:\Users\guest`
	}
	return filepath.Join(g.folder, "home")
}

// host is where a path of the guest's is on the host.
func (g *Guest) host(path string) string {
	if !g.windows {
		return path
	}
	return filepath.Join(g.folder, strings.NewReplacer(`\`, "/", ":", "").Replace(path))
}

// own is the same for files that Tools are asked for: only the guest's own are its files.
func (g *Guest) own(path string) (string, error) {
	host := filepath.Clean(g.host(path))
	if !strings.HasPrefix(host, g.folder+string(filepath.Separator)) {
		return "", ErrOutside
	}
	return host, nil
}

func (g *Guest) join(directory, name string) string {
	if g.windows {
		return directory + `\` + name
	}
	return filepath.Join(directory, name)
}

// CreateTemporary makes an empty file, or a directory, with a name that nobody has.
func (g *Guest) CreateTemporary(directory, prefix, suffix string, isDirectory bool) (string, error) {
	if directory == "" {
		directory = g.temp()
	}
	host, err := g.own(directory)
	if err != nil {
		return "", err
	}
	if info, err := os.Stat(host); err != nil || !info.IsDir() {
		return "", ErrNotFound
	}
	pattern := prefix + "vmware*" + suffix
	if isDirectory {
		path, err := os.MkdirTemp(host, pattern)
		return g.join(directory, filepath.Base(path)), err
	}
	file, err := os.CreateTemp(host, pattern)
	if err != nil {
		return "", err
	}
	return g.join(directory, filepath.Base(file.Name())), file.Close()
}

// Read is all that is in a file.
func (g *Guest) Read(path string) ([]byte, error) {
	host, err := g.own(path)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(host)
	return text, known(err)
}

// Write puts a file there.
func (g *Guest) Write(path string, text []byte, overwrite bool) error {
	host, err := g.own(path)
	if err != nil {
		return err
	}
	if _, err := os.Stat(host); err == nil && !overwrite {
		return ErrExists
	}
	return known(os.WriteFile(host, text, 0o700))
}

// Delete takes a file away.
func (g *Guest) Delete(path string) error {
	host, err := g.own(path)
	if err != nil {
		return err
	}
	return known(os.Remove(host))
}

// DeleteDirectory takes a directory away, with what is in it if so wished.
func (g *Guest) DeleteDirectory(path string, recursive bool) error {
	host, err := g.own(path)
	if err != nil {
		return err
	}
	if recursive {
		return known(os.RemoveAll(host))
	}
	return known(os.Remove(host))
}

// MakeDirectory makes one.
func (g *Guest) MakeDirectory(path string, parents bool) error {
	host, err := g.own(path)
	if err != nil {
		return err
	}
	if parents {
		return known(os.MkdirAll(host, 0o700))
	}
	return known(os.Mkdir(host, 0o700))
}

// Files are the paths of all files that are there, of the guest's own.
func (g *Guest) Files() []string {
	paths := []string{}
	_ = filepath.WalkDir(g.folder, func(path string, entry fs.DirEntry, err error) error {
		if entry != nil && entry.Name() == ".records" {
			return filepath.SkipDir
		}
		if err == nil && !entry.IsDir() {
			paths = append(paths, strings.TrimPrefix(path, g.folder+"/"))
		}
		return nil
	})
	return paths
}

// known says what Tools have words for.
func known(err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return ErrNotFound
	case errors.Is(err, fs.ErrExist):
		return ErrExists
	}
	return err
}
