package collector

import (
	"reflect"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// state is whether a property has a value.
type state int

const (
	present state = iota
	unset
	lost // what it is part of is unset
)

// property is the value of one at some moment.
type property struct {
	path  string
	value any
	state state
}

// read is some properties of an object as they are now. What is told of them is not changed afterwards: those who
// change objects put new values in the places of old ones.
func read(ctx *simulator.Context, object ref, paths ...string) []property {
	found := ctx.Session.Get(object)
	read := make([]property, len(paths))
	if found == nil {
		for i, path := range paths {
			read[i] = property{path: path, state: lost}
		}
		return read
	}
	ctx.WithLock(found, func() {
		value := managed(found)
		for i, path := range paths {
			at, state := valueAt(value, path)
			read[i] = property{path, at, state}
		}
	})
	return read
}

// managed is the object without what wraps it: one of package mo, in the first field of each wrapper.
func managed(object mo.Reference) reflect.Value {
	if shown, ok := object.(interface{ Get() mo.Reference }); ok {
		object = shown.Get()
	}
	value := reflect.ValueOf(object).Elem()
	for !strings.HasSuffix(value.Type().PkgPath(), "/vim25/mo") {
		value = reflect.Indirect(value.Field(0))
	}
	return value
}

func valueAt(value reflect.Value, path string) (any, state) {
	names := strings.Split(path, ".")
	for i, name := range names {
		if value = bare(value); !value.IsValid() {
			return nil, lost
		}
		value = value.FieldByName(upper(name))
		if empty(value) && i == len(names)-1 {
			return nil, unset
		}
	}
	return wrap(bare(value)), present
}

// bare is what a pointer or an interface holds.
func bare(value reflect.Value) reflect.Value {
	for value.Kind() == reflect.Pointer || value.Kind() == reflect.Interface {
		value = value.Elem()
	}
	return value
}

func empty(value reflect.Value) bool {
	switch value.Kind() {
	case reflect.Pointer, reflect.Interface:
		return value.IsNil()
	case reflect.String:
		return value.Len() == 0
	}
	return false
}

// arrays of types whose names differ from those of Go.
var arrays = map[reflect.Kind]string{
	reflect.String: "String", reflect.Uint8: "Byte", reflect.Int16: "Short", reflect.Int32: "Int", reflect.Int64: "Long",
}

// wrap puts a list into the type that stands for it on the wire.
func wrap(value reflect.Value) any {
	if value.Kind() != reflect.Slice {
		return value.Interface()
	}
	element := value.Type().Elem()
	name := strings.TrimPrefix(element.Name(), "Base")
	if basic, ok := arrays[element.Kind()]; ok && element.PkgPath() == "" {
		name = basic
	}
	kind, ok := types.TypeFunc()("ArrayOf" + name)
	if !ok {
		return value.Interface()
	}
	array := reflect.New(kind)
	field := array.Elem().Field(0)
	field.Set(reflect.AppendSlice(reflect.MakeSlice(field.Type(), 0, value.Len()), value.Convert(field.Type())))
	return array.Interface()
}

// Types of managed objects by their names, as the specifications of filters give them.
var kinds sync.Map

func kindOf(name string) (reflect.Type, bool) {
	if known, ok := kinds.Load(name); ok {
		return known.(reflect.Type), true
	}
	if !mo.IsManagedObjectType(name) {
		return nil, false
	}
	object, err := mo.ObjectContentToType(types.ObjectContent{Obj: ref{Type: name}})
	if err != nil {
		return nil, false
	}
	kind := reflect.TypeOf(object)
	kinds.Store(name, kind)
	return kind, true
}

// isA: objects of the first type are such of the second, too.
func isA(name, wanted string) bool {
	if name == wanted {
		return true
	}
	kind, ok := kindOf(name)
	return ok && embeds(kind, wanted)
}

func embeds(kind reflect.Type, wanted string) bool {
	field, ok := kind.FieldByName(wanted)
	return ok && field.Anonymous
}

// exists: objects of the type have such a property.
func exists(name, path string) bool {
	kind, ok := kindOf(name)
	if !ok {
		return false
	}
	for _, part := range strings.Split(path, ".") {
		for kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		if kind.Kind() == reflect.Interface {
			return true // its parts depend on what it holds
		}
		field, ok := fieldOf(kind, part)
		if !ok {
			return false
		}
		kind = field.Type
	}
	return true
}

func fieldOf(kind reflect.Type, name string) (reflect.StructField, bool) {
	if kind.Kind() != reflect.Struct {
		return reflect.StructField{}, false
	}
	return kind.FieldByName(upper(name))
}

// allProperties are the names of all properties of a type, inherited ones too.
func allProperties(name string) []string {
	kind, ok := kindOf(name)
	if !ok {
		return nil
	}
	return fieldNames(kind)
}

func fieldNames(kind reflect.Type) (names []string) {
	for field := range fields(kind) {
		switch {
		case field.Anonymous:
			names = append(names, fieldNames(field.Type)...)
		case field.Name != "Self":
			names = append(names, strings.ToLower(field.Name[:1])+field.Name[1:])
		}
	}
	return names
}

func fields(kind reflect.Type) func(yield func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range kind.NumField() {
			if !yield(kind.Field(i)) {
				return
			}
		}
	}
}

func upper(name string) string {
	return strings.ToUpper(name[:1]) + name[1:]
}
