package vcenter

import (
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

type fileManager struct {
	mo.GuestFileManager
	unlocked

	rig *VCenter
}

// CreateTemporaryFileInGuest makes an empty file, where only its answer tells.
func (m *fileManager) CreateTemporaryFileInGuest(_ *simulator.Context, r *types.CreateTemporaryFileInGuest) soap.HasFault {
	path, fault := m.temporary("CreateTemporaryFileInGuest", *r, false)
	if fault != nil {
		return &methods.CreateTemporaryFileInGuestBody{Fault_: soapFault(fault)}
	}
	return &methods.CreateTemporaryFileInGuestBody{Res: &types.CreateTemporaryFileInGuestResponse{Returnval: path}}
}

// CreateTemporaryDirectoryInGuest makes an empty directory.
func (m *fileManager) CreateTemporaryDirectoryInGuest(_ *simulator.Context, r *types.CreateTemporaryDirectoryInGuest) soap.HasFault {
	path, fault := m.temporary("CreateTemporaryDirectoryInGuest", types.CreateTemporaryFileInGuest(*r), true)
	if fault != nil {
		return &methods.CreateTemporaryDirectoryInGuestBody{Fault_: soapFault(fault)}
	}
	return &methods.CreateTemporaryDirectoryInGuestBody{
		Res: &types.CreateTemporaryDirectoryInGuestResponse{Returnval: path},
	}
}

func (m *fileManager) temporary(method string, r types.CreateTemporaryFileInGuest, directory bool) (string, types.BaseMethodFault) {
	_, inside, fault := m.rig.enter(method, r.Vm, r.Auth)
	if fault != nil {
		return "", fault
	}
	path, err := inside.CreateTemporary(r.DirectoryPath, r.Prefix, r.Suffix, directory)
	return path, vimFault(err, r.DirectoryPath)
}

// DeleteFileInGuest takes a file away.
func (m *fileManager) DeleteFileInGuest(_ *simulator.Context, r *types.DeleteFileInGuest) soap.HasFault {
	_, inside, fault := m.rig.enter("DeleteFileInGuest", r.Vm, r.Auth)
	if fault == nil {
		fault = vimFault(inside.Delete(r.FilePath), r.FilePath)
	}
	if fault != nil {
		return &methods.DeleteFileInGuestBody{Fault_: soapFault(fault)}
	}
	return &methods.DeleteFileInGuestBody{Res: &types.DeleteFileInGuestResponse{}}
}

// DeleteDirectoryInGuest takes a directory away.
func (m *fileManager) DeleteDirectoryInGuest(_ *simulator.Context, r *types.DeleteDirectoryInGuest) soap.HasFault {
	_, inside, fault := m.rig.enter("DeleteDirectoryInGuest", r.Vm, r.Auth)
	if fault == nil {
		fault = vimFault(inside.DeleteDirectory(r.DirectoryPath, r.Recursive), r.DirectoryPath)
	}
	if fault != nil {
		return &methods.DeleteDirectoryInGuestBody{Fault_: soapFault(fault)}
	}
	return &methods.DeleteDirectoryInGuestBody{Res: &types.DeleteDirectoryInGuestResponse{}}
}

// MakeDirectoryInGuest makes one.
func (m *fileManager) MakeDirectoryInGuest(_ *simulator.Context, r *types.MakeDirectoryInGuest) soap.HasFault {
	_, inside, fault := m.rig.enter("MakeDirectoryInGuest", r.Vm, r.Auth)
	if fault == nil {
		fault = vimFault(inside.MakeDirectory(r.DirectoryPath, r.CreateParentDirectories), r.DirectoryPath)
	}
	if fault != nil {
		return &methods.MakeDirectoryInGuestBody{Fault_: soapFault(fault)}
	}
	return &methods.MakeDirectoryInGuestBody{Res: &types.MakeDirectoryInGuestResponse{}}
}

// InitiateFileTransferFromGuest gives an address to get a file from, once.
func (m *fileManager) InitiateFileTransferFromGuest(_ *simulator.Context, r *types.InitiateFileTransferFromGuest) soap.HasFault {
	_, inside, fault := m.rig.enter("InitiateFileTransferFromGuest", r.Vm, r.Auth)
	var text []byte
	if fault == nil {
		var err error
		text, err = inside.Read(r.GuestFilePath)
		fault = vimFault(err, r.GuestFilePath)
	}
	if fault != nil {
		return &methods.InitiateFileTransferFromGuestBody{Fault_: soapFault(fault)}
	}
	return &methods.InitiateFileTransferFromGuestBody{Res: &types.InitiateFileTransferFromGuestResponse{
		Returnval: types.FileTransferInformation{
			Attributes: &types.GuestPosixFileAttributes{},
			Size:       int64(len(text)),
			Url:        m.rig.transfers.offer(transfer{from: inside, path: r.GuestFilePath}),
		},
	}}
}

// InitiateFileTransferToGuest gives an address to put a file to, once.
func (m *fileManager) InitiateFileTransferToGuest(_ *simulator.Context, r *types.InitiateFileTransferToGuest) soap.HasFault {
	_, inside, fault := m.rig.enter("InitiateFileTransferToGuest", r.Vm, r.Auth)
	if fault != nil {
		return &methods.InitiateFileTransferToGuestBody{Fault_: soapFault(fault)}
	}
	address := m.rig.transfers.offer(transfer{to: inside, path: r.GuestFilePath, overwrite: r.Overwrite})
	return &methods.InitiateFileTransferToGuestBody{Res: &types.InitiateFileTransferToGuestResponse{Returnval: address}}
}
